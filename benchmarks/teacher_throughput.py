"""A live teacher against a server's ceiling: requests a second, and memory however many prompts.

    python benchmarks/teacher_throughput.py [--prompts 6000] [--processes 2] [--out FILE]

A server on loopback answers after 300 ms and works on 64 requests at once: at most 64 / 0.3 = 213 requests a second
can be answered. Measured twice: with a server that lets the 65th wait, as vLLM and SGLang do, asked over 128
connections; and with one that refuses it with 429, as paid APIs do, asked over 64, where every connection stands idle
at the server while its answer is read and the next request written. The teacher asks through Inspect, writes its ledger
and reserves its budget as always. The rate is taken at the server, from the first arrival to the last answer; the whole
command's time, with the start of the processes and the writing of the data set, stands beside it. Memory is measured in
processes of their own, at 1,000 prompts and at 50,000, against a server without latency.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LATENCY, LIMIT = 0.3, 64
ROOT = Path(__file__).parent.parent


@contextmanager
def server(latency: float, limit: int, waits: bool, seen: dict[str, float]) -> Iterator[str]:
    """The test server in a process of its own: its address. What it has seen goes into ``seen`` when it ends."""
    command = [
        sys.executable,
        str(ROOT / "tests" / "teacher_server.py"),
        "--latency",
        str(latency),
        "--limit",
        str(limit),
        *(["--waits"] if waits else []),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)
        seen.update(json.loads(process.stdout.readline()))


def teach(url: str, count: int, folder: Path, processes: int, connections: int) -> dict[str, float]:
    """Ask for ``count`` prompts' chains, in this process."""
    from saro.config import SynthesizeConfig
    from saro.engines.ledger import Ledger
    from saro.memory import peak_memory
    from saro.policies import load_policies
    from saro.progress import reporter
    from saro.stages import teaching

    prompts = folder / "prompts.jsonl"
    with prompts.open("w") as handle:
        for place in range(count):
            text = f"kind request {place}: " + "tell me how bread is baked in a village " * 10
            row = {"id": f"p{place}", "text": text, "label": "benign", "category": "no-harm"}
            handle.write(json.dumps(row) + "\n")
    config = SynthesizeConfig(
        prompts=str(prompts),
        teacher="openai-api/local/m",
        teacher_url=url,
        connections=connections,
        budget_tokens=10**9,
        processes=processes,
    )
    started = time.monotonic()
    teaching.teach(config, load_policies(), folder / "out", folder / "out" / "requests.sqlite", reporter())
    seconds = time.monotonic() - started
    with Ledger(folder / "out" / "requests.sqlite") as ledger:
        repeated = ledger.attempts() - count
    return {"seconds": seconds, "repeated": repeated, "peak_gb": peak_memory()}


def measured(latency: float, limit: int, waits: bool, count: int, processes: int, connections: int) -> dict[str, float]:
    """One measurement in a process of its own; ``rate`` is the server's."""
    seen: dict[str, float] = {}
    with server(latency, limit, waits, seen) as url, tempfile.TemporaryDirectory() as folder:
        one = ["--one", url, str(count), folder, str(connections), "--processes", str(processes)]
        environment = {**os.environ, "LOCAL_API_KEY": "none", "PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, str(Path(__file__).resolve()), *one]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "rate": seen["answered"] / seen["seconds"]}


def main() -> None:
    """Measure and print; write the figures to a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=6000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--many", type=int, default=50_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/teacher_throughput.json"))
    parser.add_argument("--one", nargs=4, metavar=("URL", "PROMPTS", "FOLDER", "CONNECTIONS"))
    options = parser.parse_args()
    if options.one:
        url, count, folder, connections = options.one
        print(json.dumps(teach(url, int(count), Path(folder), options.processes, int(connections))))
        return
    ceiling = LIMIT / LATENCY
    result: dict[str, object] = {
        "command": f"python benchmarks/teacher_throughput.py --prompts {options.prompts}"
        f" --processes {options.processes} --many {options.many}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "ceiling, requests a second": round(ceiling, 1),
        "processes": options.processes,
    }
    for name, waits, connections in (("waits", True, 2 * LIMIT), ("is refused", False, LIMIT)):
        speed = measured(LATENCY, LIMIT, waits, options.prompts, options.processes, connections)
        result[f"where the 65th {name}"] = {
            "connections": connections,
            "answers a second": round(speed["rate"], 1),
            "share of the ceiling": round(speed["rate"] / ceiling, 3),
            f"seconds for {options.prompts:,} prompts, start and writing included": round(speed["seconds"], 1),
            "requests repeated": speed["repeated"],
        }
    few, many = (measured(0.0, 10_000, False, count, 1, LIMIT) for count in (1000, options.many))
    result |= {
        "peak memory at 1,000 prompts, MB": round(few["peak_gb"] * 1000),
        f"peak memory at {options.many:,} prompts, MB": round(many["peak_gb"] * 1000),
        f"seconds for {options.many:,} prompts without latency": round(many["seconds"]),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
