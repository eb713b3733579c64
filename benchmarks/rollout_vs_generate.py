"""Tree roll-outs against ``model.generate`` with ``num_return_sequences``, in turn in one process.

    python benchmarks/rollout_vs_generate.py --model runs/demo/warmup/model [--prompts 8] [--rounds 5] [--out FILE]

Both give 16 chains a prompt from an RW model at temperature 1, top-p 0.95 and at most 256 tokens; ours as trees that
branch 4, 2, 2. Texts differ, so what is compared is the tokens of all chains a second, as a user would count them:
those that our chains share are in each of them, but decoded once. ``generate`` runs at its best of three batches
(all chains at once, a half, a quarter), found in a first round. Idle slots are rows that are computed after their
chain has ended.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from saro.engines.branching import Shape, grow
from saro.engines.local import Sampling
from saro.files import write_json
from saro.models import choose_compute, load_model
from saro.rendering import load_renderer
from saro.sources.prompts import load_prompts

BRANCHING, MOST = (4, 2, 2), 256


def main() -> None:
    """Measure and print; write the figures to a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rollout_vs_generate.json"))
    options = parser.parse_args()
    compute = choose_compute("auto", "auto")
    renderer = load_renderer(options.model)
    model = load_model(options.model, compute.device, compute.dtype)
    prompts = [renderer.prompt_ids(prompt.text) for prompt in load_prompts("starter:rollout", options.prompts)]
    chains = 16 * len(prompts)
    idle: dict[str, list[float]] = {"trees": [], "generate": []}
    shared: list[float] = []

    def trees(seed: int) -> int:
        seeds = [seed * 1000 + place for place in range(len(prompts))]
        shape = Shape(BRANCHING, Sampling(MOST, 1.0, 0.95), renderer.ends_step, renderer.eos)
        found, taken = grow(model, prompts, seeds, shape, chains)
        idle["trees"].append(1 - taken.tokens / taken.slots)
        tokens = sum(len(leaf.token_ids) for leaves in found for leaf in leaves)
        shared.append(tokens / taken.tokens)
        return tokens

    def generate(batch: int) -> Callable[[int], int]:
        def run(seed: int) -> int:
            torch.manual_seed(seed)
            tokens = slots = 0
            for start in range(0, len(prompts), batch):
                lengths, steps = generated(prompts[start : start + batch])
                tokens += sum(lengths)
                slots += steps * len(lengths)
            idle["generate"].append(1 - tokens / slots)
            return tokens

        return run

    def generated(several: Sequence[Sequence[int]]) -> tuple[list[int], int]:
        """Tokens of each chain, and steps that the batch took."""
        longest = max(map(len, several))
        ids = torch.full((len(several), longest), min(renderer.eos))
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(several):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        out = model.generate(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), max_new_tokens=MOST,
            do_sample=True, temperature=1.0, top_p=0.95, top_k=0, num_return_sequences=16,
            eos_token_id=sorted(renderer.eos), pad_token_id=min(renderer.eos),
        )[:, longest:]  # fmt: skip
        lengths = []
        for row in out.tolist():
            ends = [place for place, token in enumerate(row) if token in renderer.eos]
            lengths.append(ends[0] + 1 if ends else len(row))
        return lengths, out.shape[1]

    def speed(side: Callable[[int], int], seed: int) -> float:
        started = time.perf_counter()
        tokens = side(seed)
        return tokens / (time.perf_counter() - started)

    batches = {batch: generate(batch) for batch in (len(prompts), len(prompts) // 2, len(prompts) // 4)}
    speed(batches[len(prompts)], 0)  # warm
    first = {batch: speed(side, 0) for batch, side in batches.items()}
    best = max(first, key=first.__getitem__)
    speed(trees, 0)  # warm
    for values in (*idle.values(), shared):
        values.clear()
    sides = {"trees": trees, "generate": batches[best]}
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for seed in range(1, options.rounds + 1):
        for name, side in sides.items():
            speeds[name].append(speed(side, seed))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    result = {
        "what": "tokens of all chains a second: median, minimum, maximum",
        "command": " ".join(["python benchmarks/rollout_vs_generate.py", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {compute.device}, {compute.dtype}",
        "torch": torch.__version__,
        **{name: [round(f(values)) for f in (statistics.median, min, max)] for name, values in speeds.items()},
        "chains a batch of generate": 16 * best,
        "ratio of medians": round(medians["trees"] / medians["generate"], 2),
        "tokens of the chains for each that was decoded": round(statistics.median(shared), 2),
        "share of idle slots": {name: round(statistics.median(values), 3) for name, values in idle.items()},
    }
    write_json(options.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
