"""Preference training: ours, packed, against TRL's ``DPOTrainer`` and against ours unpacked, in turn in one process.

    python benchmarks/srpo_vs_trl.py [--pairs FILE --micro-batch 4] [--rounds 5] [--out FILE]

Forward and backward of all pairs of a workload, collation included; reference log-probs are known beforehand on all
sides, and the optimizer's step, equal on all, is left out. bf16 autocast over float32 weights. TRL runs at the
micro-batch at which it is fastest, of 1, 2, 4 and 8 (the better of two tries each), without gradient checkpointing and
with its fused LM head. On a CPU that head scores every position and computes its gradient in float32, where ours
scores the tokens of the sides alone; so the share of the ideal is reckoned against ours unpacked, where packing is the
only difference. Peak memory is that above the model and its gradients, of processes of their own.

Workloads: of ``--pairs``, a run's ``pairs.jsonl``, in its order of training; (a) trees with 8 leaves and 12 pairs each,
more than ``saro pairs`` draws: of random tokens, branching twice at each of three steps, as long as the demo's (a
prompt of 60 tokens, steps of 24, an answer of 48); (b) single pairs that share 70 % of their tokens; (c) single pairs
that share their prompt alone.
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
from saro.memory import freed_memory_kept, give_back, peak_memory
from saro.models import EMBEDDED, choose_compute, load_model
from saro.records import Message, Pair, PairProvenance, Verdict
from saro.training.losses import preference_loss
from saro.training.packing import Packed, lay_out, pack, side_log_probs, unique_tokens
from saro.training.preference import pair_order, sides_of

BETA, LIMIT = 0.1, 4096
Side = Callable[[], None]
Rows = Callable[[list[Any], int], Packed]
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


def tree_pairs(prompt: str, dice: random.Random) -> list[Pair]:
    """Twelve pairs among the eight leaves of a tree that branches in two under each of three steps."""
    grown = [random_tokens(60, dice)]
    for _ in range(3):
        grown = [stem + random_tokens(24, dice) for stem in grown for _ in range(2)]
    chains = [stem + random_tokens(24 + 48, dice) for stem in grown]
    sides = dice.sample(list(itertools.combinations(chains, 2)), 12)
    return [pair(f"{prompt}-{number}", prompt, *side, 60) for number, side in enumerate(sides)]


def random_tokens(count: int, dice: random.Random) -> list[int]:
    """Token ids that every vocabulary of this size has."""
    return [dice.randrange(10, 40_000) for _ in range(count)]


def workloads(file: Path | None, micro_batch: int) -> dict[str, list[list[Pair]]]:
    """Pairs by workload, those of one micro-batch of ours together."""
    dice = random.Random(0)

    def single(name: str, shared: int, own: int) -> Pair:
        stem = random_tokens(shared, dice)
        return pair(name, name, stem + random_tokens(own, dice), stem + random_tokens(own, dice), shared)

    found = {
        "a: trees of 8 leaves and 12 pairs": [tree_pairs(f"t{number}", dice) for number in range(3)],
        "b: single pairs, 70 % shared": [[single(f"b{row}{n}", 154, 66) for n in range(4)] for row in range(4)],
        "c: single pairs, only the prompt shared": [
            [single(f"c{row}{n}", 60, 160) for n in range(4)] for row in range(4)
        ],
    }
    if file is None:
        return found
    pairs = list(read_jsonl(file, Pair))
    order = pair_order(pairs, micro_batch, 1.0, 0)[: 12 * micro_batch]
    batches = [[pairs[index] for index in order[at : at + micro_batch]] for at in range(0, len(order), micro_batch)]
    return {f"pairs of a run, {micro_batch} at once": batches, **found}


def ours(model: Any, batches: Sequence[Sequence[Pair]], rows_of: Rows, autocast: Callable[[], Any]) -> Side:
    """Our epoch over ``batches``, packed or unpacked."""

    def epoch() -> None:
        for batch in batches:
            packed = rows_of(sides_of(batch), LIMIT).to(model.device)
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
        bf16=True, use_cpu=not torch.cuda.is_available(), disable_tqdm=True, gradient_checkpointing=False,
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


def peak_of(side: Side) -> float:
    """GB that the second of two epochs takes above what is held before it: model, gradients, libraries."""
    side()
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        side()
        return float(torch.cuda.max_memory_allocated() - before) / 1e9
    give_back()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is held now
    before = peak_memory()
    side()
    return peak_memory() - before


def main() -> None:
    """Measure and print; write the figures to a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/srpo_vs_trl.json"))
    parser.add_argument("--memory", nargs=3, metavar=("SIDE", "WORKLOAD", "AT_ONCE"))
    options = parser.parse_args()
    compute = choose_compute("auto", "auto")
    given = workloads(options.pairs, options.micro_batch)

    def autocast() -> Any:
        return torch.autocast(compute.device, dtype=torch.bfloat16, enabled=compute.dtype == torch.bfloat16)

    def model() -> Any:
        return load_model(EMBEDDED, compute.device, torch.float32)

    with tempfile.TemporaryDirectory() as folder:
        if options.memory:
            which, name, at_once = options.memory
            rows_of = {"ours": pack, "ours unpacked": lay_out}.get(which)
            trained = model()
            side = (
                ours(trained, given[name], rows_of, autocast)
                if rows_of
                else theirs(dpo_trainer(trained, folder), given[name], int(at_once), autocast)
            )
            print(json.dumps(peak_of(side)))
            return
        result: dict[str, Any] = {
            "what": "seconds of an epoch: median, minimum, maximum",
            "command": " ".join(["python benchmarks/srpo_vs_trl.py", *sys.argv[1:]]),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {compute.device}, {compute.dtype}",
            "torch": torch.__version__,
        }
        own, trainer = model(), dpo_trainer(model(), folder)  # TRL patches the forward of its own
        with freed_memory_kept():
            for name, batches in given.items():
                tries = {at_once: theirs(trainer, batches, at_once, autocast) for at_once in (1, 2, 4, 8)}
                timed(tries[8])  # warm
                fastest = {at_once: min(timed(side), timed(side)) for at_once, side in tries.items()}
                best = min(fastest, key=fastest.__getitem__)
                sides = {
                    "ours": ours(own, batches, pack, autocast),
                    "ours unpacked": ours(own, batches, lay_out, autocast),
                    "TRL": tries[best],
                }
                for side in list(sides.values())[:2]:
                    timed(side)  # warm
                seconds: dict[str, list[float]] = {which: [] for which in sides}
                for _ in range(options.rounds):
                    for which, side in sides.items():
                        seconds[which].append(timed(side))
                result[name] = _row(name, batches, seconds, best, options)
                print(name, json.dumps(result[name], indent=2), flush=True)
    write_json(options.out, result)


def _row(
    name: str, batches: Sequence[Sequence[Pair]], seconds: dict[str, list[float]], best: int, options: Any
) -> dict[str, Any]:
    sequences = [[side.token_ids for side in sides_of(batch)] for batch in batches]
    ideal = sum(len(ids) for batch in sequences for ids in batch) / sum(map(unique_tokens, sequences))
    median = {which: statistics.median(times) for which, times in seconds.items()}
    memory = {}
    for which in seconds:
        command = [
            sys.executable,
            __file__,
            "--memory",
            which,
            name,
            str(best),
            "--micro-batch",
            str(options.micro_batch),
        ]
        command += ["--pairs", str(options.pairs)] if options.pairs else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        memory[which] = round(json.loads(done.stdout.splitlines()[-1]), 2)
    return {
        **{which: [round(f(times), 2) for f in (statistics.median, min, max)] for which, times in seconds.items()},
        "TRL's micro-batch": best,
        "times TRL's speed": round(median["TRL"] / median["ours"], 2),
        "times our own speed unpacked": round(median["ours unpacked"] / median["ours"], 2),
        "ideal (tokens of the pairs / unique tokens)": round(ideal, 2),
        "share of the ideal, against ours unpacked": round(median["ours unpacked"] / median["ours"] / ideal, 2),
        "peak memory above model and gradients, GB": memory,
    }


if __name__ == "__main__":
    main()
