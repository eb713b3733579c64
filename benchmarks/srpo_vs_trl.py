"""Preference training: ours, packed, against TRL's ``DPOTrainer``, in turn in one process on the same pairs.

    python benchmarks/srpo_vs_trl.py [--trees FILE] [--rounds 5] [--out benchmarks/results/srpo_vs_trl.json]

Forward and backward of all pairs of a workload, collation included; reference log-probs are known beforehand on both
sides, and the optimizer's step, equal on both, is left out. TRL runs with its fused LM head and with the micro-batch at
which it is fastest, of 1, 2, 4 and 8, found in a first round; each of our micro-batches holds the pairs of a tree, or
as many single pairs. bf16 autocast over float32 weights on both sides. Peak memory is that above the loaded model, of
processes of their own.

Workloads: (a) trees with 8 leaves and 12 pairs each: of ``--trees``, a roll-out's file, those with 8 leaves or more,
or else trees that branch twice at each of three steps, of random tokens, as long as the demo's (a prompt of 60
tokens, steps of 24, an answer of 48); (b) single pairs that share 70 % of their tokens; (c) single pairs that share
their prompt alone.
"""

import argparse
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from saro.files import read_jsonl, write_json
from saro.memory import freed_memory_kept, peak_memory
from saro.models import EMBEDDED, choose_compute, load_model
from saro.records import Message, Pair, PairProvenance, Tree, Verdict
from saro.training.losses import preference_loss
from saro.training.packing import side_log_probs, unique_tokens
from saro.training.preference import pack_pairs
from saro.trees import leaves, path

BETA, LIMIT = 0.1, 4096
Side = Callable[[], None]
VERDICT = Verdict(judge="benchmark", label="refusal")
PROVENANCE = PairProvenance(
    model="", seed=0, parent=None, chosen_nodes=(), rejected_nodes=(), chosen_value=1, rejected_value=0,
    chosen_verdict=VERDICT, rejected_verdict=VERDICT,
)  # fmt: skip
TURN = (Message(role="user", content=""),)


def pair(name: str, prompt: str, chosen: Sequence[int], rejected: Sequence[int], least: int) -> Pair:
    """Two whole sequences as a pair; what they share, at least ``least`` tokens, is its prefix."""
    shared = next((place for place, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), least)
    cut = max(least, shared)
    return Pair(
        id=name, kind="outcome", direction="harmful", prompt_id=prompt, prompt=TURN, chosen=TURN, rejected=TURN,
        prefix_ids=tuple(chosen[:cut]), chosen_ids=tuple(chosen[cut:]), rejected_ids=tuple(rejected[cut:]),
        provenance=PROVENANCE,
    )  # fmt: skip


def tree_pairs(sequences: Sequence[Sequence[int]], prompt: str, least: int, dice: random.Random) -> list[Pair]:
    """Twelve pairs among eight leaves."""
    sides = dice.sample(list(itertools.combinations(sequences[:8], 2)), 12)
    return [pair(f"{prompt}-{number}", prompt, *side, least) for number, side in enumerate(sides)]


def random_tree(dice: random.Random) -> list[list[int]]:
    """Eight leaves under three steps that branch in two."""

    def tokens(count: int) -> list[int]:
        return [dice.randrange(10, 40_000) for _ in range(count)]

    grown = [tokens(60)]
    for _ in range(3):
        grown = [stem + tokens(24) for stem in grown for _ in range(2)]
    return [stem + tokens(24 + 48) for stem in grown]


def workloads(file: Path | None) -> dict[str, list[list[Pair]]]:
    """Pairs by workload, those of one micro-batch of ours together."""
    dice = random.Random(0)
    if file is None:
        trees = [tree_pairs(random_tree(dice), f"t{number}", 60, dice) for number in range(3)]
    else:
        trees = []
        for tree in read_jsonl(file, Tree):
            ids = [
                [*tree.prompt_ids, *(token for node in path(tree, leaf.id) for token in node.token_ids)]
                for leaf in leaves(tree)
            ]
            if len({tuple(sequence) for sequence in ids}) >= 8 and len(trees) < 3:
                trees.append(tree_pairs(ids, tree.prompt.id, len(tree.prompt_ids), dice))

    def single(name: str, shared: int, own: int) -> Pair:
        stem, good, bad = ([dice.randrange(10, 40_000) for _ in range(count)] for count in (shared, own, own))
        return pair(name, name, stem + good, stem + bad, shared)

    return {
        "a: trees of 8 leaves and 12 pairs": trees,
        "b: single pairs, 70 % shared": [[single(f"b{row}{n}", 154, 66) for n in range(8)] for row in range(2)],
        "c: single pairs, only the prompt shared": [
            [single(f"c{row}{n}", 60, 160) for n in range(8)] for row in range(2)
        ],
    }


def ours(model: Any, batches: Sequence[Sequence[Pair]], autocast: Callable[[], Any]) -> Side:
    """Our epoch over ``batches``."""

    def epoch() -> None:
        for batch in batches:
            packed = pack_pairs(batch, LIMIT).to(model.device)
            lengths = torch.tensor([[len(one.chosen_ids), len(one.rejected_ids)] for one in batch], device=model.device)
            with autocast():
                sums = side_log_probs(model, packed).view(-1, 2)
            preference_loss("sigmoid", sums - sums.detach(), lengths, BETA, 0.0).mean().backward()
        model.zero_grad(set_to_none=False)

    return epoch


def theirs(trainer: Any, batches: Sequence[Sequence[Pair]], at_once: int, autocast: Callable[[], Any]) -> Side:
    """TRL's epoch over the same pairs, longest together as its sampler by length would have them."""
    pairs = sorted((one for batch in batches for one in batch), key=lambda one: len(one.prefix_ids + one.chosen_ids))
    rows = [
        {
            "prompt_ids": list(one.prefix_ids),
            "chosen_ids": list(one.chosen_ids),
            "rejected_ids": list(one.rejected_ids),
            "ref_chosen_logps": -100.0,
            "ref_rejected_logps": -100.0,
        }
        for one in pairs
    ]

    def epoch() -> None:
        for start in range(0, len(rows), at_once):
            batch = trainer.data_collator(rows[start : start + at_once])
            inputs = {name: value.to(trainer.model.device) for name, value in batch.items()}
            with autocast():
                trainer.compute_loss(trainer.model, inputs).backward()
        trainer.model.zero_grad(set_to_none=False)

    return epoch


def dpo_trainer(model: Any, folder: str) -> Any:
    """TRL's trainer around ``model``; its data come from elsewhere."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from saro.rendering import load_renderer

    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    settings = DPOConfig(
        output_dir=folder, beta=BETA, max_length=None, precompute_ref_log_probs=True, report_to="none",
        bf16=True, use_cpu=not torch.cuda.is_available(), disable_tqdm=True,
    )  # fmt: skip
    return DPOTrainer(
        model,
        None,
        settings,
        train_dataset=Dataset.from_list([row]),
        processing_class=load_renderer(EMBEDDED).tokenizer,
    )


def timed(side: Side) -> float:
    """Seconds of one epoch."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    side()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print; write the figures to a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trees", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/srpo_vs_trl.json"))
    parser.add_argument("--memory", nargs=3, metavar=("SIDE", "WORKLOAD", "AT_ONCE"))
    options = parser.parse_args()
    compute = choose_compute("auto", "auto")
    given = workloads(options.trees)

    def autocast() -> Any:
        return torch.autocast(compute.device, dtype=torch.bfloat16, enabled=compute.dtype == torch.bfloat16)

    # Of each side a model of its own: TRL patches the forward of its own.
    def sides(name: str, at_once: int, folder: str, which: str) -> Side:
        model = load_model(EMBEDDED, compute.device, torch.float32)
        if which == "ours":
            return ours(model, given[name], autocast)
        return theirs(dpo_trainer(model, folder), given[name], at_once, autocast)

    with tempfile.TemporaryDirectory() as folder, freed_memory_kept():
        if options.memory:
            which, name, at_once = options.memory
            side = sides(name, int(at_once), folder, which)
            before = peak_memory()
            side()
            print(json.dumps(peak_memory() - before))
            return
        result: dict[str, Any] = {
            "what": "seconds of an epoch: median, minimum, maximum",
            "command": "python " + " ".join(sys.argv),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {compute.device}, {compute.dtype}",
            "torch": torch.__version__,
            "trees": "of a roll-out" if options.trees else "of random tokens, in the shape stated above",
        }
        model, other = (load_model(EMBEDDED, compute.device, torch.float32) for _ in range(2))
        trainer = dpo_trainer(other, folder)
        for name, batches in given.items():
            tries = {at_once: timed(theirs(trainer, batches, at_once, autocast)) for at_once in (1, 2, 4, 8)}
            best = min(tries, key=tries.__getitem__)
            pair_of = {"ours": ours(model, batches, autocast), "TRL": theirs(trainer, batches, best, autocast)}
            timed(pair_of["ours"])  # warm
            seconds: dict[str, list[float]] = {which: [] for which in pair_of}
            for _ in range(options.rounds):
                for which, side in pair_of.items():
                    seconds[which].append(timed(side))
            result[name] = _row(name, batches, seconds, best, options)
            print(name, json.dumps(result[name], indent=2), flush=True)
    write_json(options.out, result)


def _row(
    name: str, batches: Sequence[Sequence[Pair]], seconds: dict[str, list[float]], best: int, options: Any
) -> dict[str, Any]:
    sequences = [
        [one.prefix_ids + side for one in batch for side in (one.chosen_ids, one.rejected_ids)] for batch in batches
    ]
    ideal = sum(len(ids) for batch in sequences for ids in batch) / sum(map(unique_tokens, sequences))
    ratio = statistics.median(seconds["TRL"]) / statistics.median(seconds["ours"])
    memory = {}
    for which in ("ours", "TRL"):
        command = [sys.executable, __file__, "--memory", which, name, str(best)]
        command += ["--trees", str(options.trees)] if options.trees else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        memory[which] = round(json.loads(done.stdout.splitlines()[-1]), 2)
    return {
        **{which: [round(f(times), 2) for f in (statistics.median, min, max)] for which, times in seconds.items()},
        "TRL's micro-batch": best,
        "ratio of medians": round(ratio, 2),
        "ideal ratio (tokens of the pairs / unique tokens)": round(ideal, 2),
        "share of the ideal": round(ratio / ideal, 2),
        "peak memory above the model, GB": memory,
    }


if __name__ == "__main__":
    main()
