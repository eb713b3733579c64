"""Our sampler against ``model.generate``, in turn in one process: same prompts, dtype, threads, limit of tokens.

    python benchmarks/sampling.py [--batch 64] [--new-tokens 128] [--rounds 5] [--out benchmarks/results/sampling.json]

Both sample at temperature 1, top-p 0.95, from the embedded student; texts differ, so tokens per second are compared.
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch

from saro.engines.local import Sampling, sample
from saro.files import write_json
from saro.models import EMBEDDED, choose_compute, load_model
from saro.rendering import load_renderer
from saro.sources.prompts import load_prompts


def main() -> None:
    """Measure and print; write the figures to a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sampling.json"))
    options = parser.parse_args()

    compute = choose_compute("auto", "auto")
    renderer = load_renderer(EMBEDDED)
    model = load_model(EMBEDDED, compute.device, compute.dtype)
    prompts = [renderer.prompt_ids(prompt.text) for prompt in load_prompts("starter:rollout", options.batch)]
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    eos = sorted(renderer.eos)

    def ours(round_number: int) -> int:
        seeds = [round_number * 1000 + row for row in range(len(prompts))]
        rows = sample(model, prompts, seeds, Sampling(options.new_tokens, 1.0, 0.95), renderer.eos)
        return sum(len(row.token_ids) for row in rows)

    def theirs(round_number: int) -> int:
        torch.manual_seed(round_number)
        out = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=options.new_tokens,
            do_sample=True,
            temperature=1.0,
            top_p=0.95,
            top_k=0,
            eos_token_id=eos,
            pad_token_id=eos[0],
        )
        total = 0
        for row in out[:, longest:].tolist():
            ends = [place for place, token in enumerate(row) if token in renderer.eos]
            total += ends[0] + 1 if ends else len(row)
        return total

    sides = {"saro.engines.local.sample": ours, "model.generate": theirs}
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for round_number in range(options.rounds + 1):
        for name, side in sides.items():
            started = time.perf_counter()
            tokens = side(round_number)
            if round_number:  # the first round warms up
                speeds[name].append(tokens / (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    result = {
        "what": "tokens per second: median, minimum, maximum",
        "command": "python benchmarks/sampling.py "
        f"--batch {options.batch} --new-tokens {options.new_tokens} --rounds {options.rounds}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {compute.device}, {compute.dtype}",
        "torch": torch.__version__,
        **{name: [round(f(values)) for f in (statistics.median, min, max)] for name, values in speeds.items()},
        "ratio of medians": round(medians["saro.engines.local.sample"] / medians["model.generate"], 2),
    }
    write_json(options.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
