"""What ``freed_memory_kept`` does to training: the same steps with and without it, in processes that take turns.

python benchmarks/allocator.py [--steps 8] [--rounds 5] [--out benchmarks/results/allocator.json]
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from saro.files import write_json
from saro.memory import freed_memory_kept
from saro.models import EMBEDDED, choose_compute, load_model
from saro.training.log_probs import token_log_probs

ROWS, LENGTH, PROMPT = 4, 256, 64


def steps(count: int, keep: bool) -> None:
    """Train a few steps; print the median seconds of the second half of them and the peak memory."""
    with freed_memory_kept() if keep else nullcontext():
        _train(count)


def _train(count: int) -> None:
    compute = choose_compute("auto", "auto")
    model = load_model(EMBEDDED, compute.device, torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(0, 40000, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0)).to(compute.device)
    scored = torch.zeros_like(ids, dtype=torch.bool)
    scored[:, PROMPT:] = True
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        with torch.autocast(compute.device, dtype=torch.bfloat16, enabled=compute.dtype == torch.bfloat16):
            loss = -token_log_probs(model, ids, torch.ones_like(ids), scored).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps([statistics.median(seconds[count // 2 :]), peak]))


def main() -> None:
    """Measure and print; write the figures to a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/allocator.json"))
    parser.add_argument("--side", choices=("keep", "default"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        steps(options.steps, options.side == "keep")
        return
    found: dict[str, list[list[float]]] = {"keep": [], "default": []}
    for _ in range(options.rounds):
        for side, rows in found.items():
            command = [sys.executable, __file__, "--steps", str(options.steps), "--side", side]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    result = {
        "what": f"training of the embedded student, {ROWS} x {LENGTH} tokens a step: median, minimum, maximum",
        "command": f"python benchmarks/allocator.py --steps {options.steps} --rounds {options.rounds}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {choose_compute('auto', 'auto').dtype}",
        "torch": torch.__version__,
        **{
            side: {
                "tokens per second": [
                    round(ROWS * LENGTH / f(row[0] for row in rows)) for f in (statistics.median, max, min)
                ],
                "peak GB": [round(f(row[1] for row in rows), 2) for f in (statistics.median, min, max)],
            }
            for side, rows in found.items()
        },
    }
    write_json(options.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
