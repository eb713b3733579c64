import os
import subprocess
import sys
import time
from pathlib import Path

import saro


def test_help_answers_in_under_half_a_second():
    environment = {**os.environ, "PYTHONPATH": str(Path(saro.__file__).parents[1])}
    times = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "saro", "--help"], capture_output=True, text=True, check=True, env=environment
        )
        times.append(time.perf_counter() - start)
        assert "synthesize" in done.stdout
        assert "Usage" in done.stdout
    assert min(times) < 0.5, times
