"""A live teacher against a server's ceiling: requests a second, and memory however many prompts.

    python benchmarks/teacher_throughput.py speed [--prompts 10000] [--processes 2] [--out FILE]
    python benchmarks/teacher_throughput.py memory [--many 50000] [--out FILE]

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
        one = ["one", "--prompts", str(count), "--processes", str(processes), "--server", url, folder, str(connections)]
        environment = {**os.environ, "LOCAL_API_KEY": "none", "PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, str(Path(__file__).resolve()), *one]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "rate": seen["answered"] / seen["seconds"]}


def speed(prompts: int, processes: int) -> dict[str, object]:
    """Answers a second, against a server that lets requests wait and one that refuses them."""
    ceiling = LIMIT / LATENCY
    result: dict[str, object] = {"ceiling, requests a second": round(ceiling, 1), "processes": processes}
    for name, waits, connections in (("waits", True, 2 * LIMIT), ("is refused", False, LIMIT)):
        found = measured(LATENCY, LIMIT, waits, prompts, processes, connections)
        result[f"where the 65th {name}"] = {
            "connections": connections,
            "answers a second": round(found["rate"], 1),
            "share of the ceiling": round(found["rate"] / ceiling, 3),
            f"seconds for {prompts:,} prompts, start and writing included": round(found["seconds"], 1),
            "requests repeated": found["repeated"],
        }
    return result


def memory(many: int) -> dict[str, object]:
    """Peak memory of the asking process at few and at many prompts."""
    few, more = (measured(0.0, 10_000, False, count, 1, LIMIT) for count in (1000, many))
    return {
        "peak memory at 1,000 prompts, MB": round(few["peak_gb"] * 1000),
        f"peak memory at {many:,} prompts, MB": round(more["peak_gb"] * 1000),
        f"seconds for {many:,} prompts without latency": round(more["seconds"]),
    }


def main() -> None:
    """Measure one part, print it, and put it into the file of results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["speed", "memory", "one"])
    parser.add_argument("--prompts", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--many", type=int, default=50_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/teacher_throughput.json"))
    parser.add_argument("--server", nargs=3, metavar=("URL", "FOLDER", "CONNECTIONS"), help="of a part measured alone")
    options = parser.parse_args()
    if options.part == "one":
        url, folder, connections = options.server
        print(json.dumps(teach(url, options.prompts, Path(folder), options.processes, int(connections))))
        return
    found = speed(options.prompts, options.processes) if options.part == "speed" else memory(options.many)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **found,
    }
    before = json.loads(options.out.read_text()) if options.out.is_file() else {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**before, options.part: result}, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
