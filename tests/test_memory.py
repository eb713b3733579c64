"""Memory: its peak is told, and what was kept is given back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from saro.memory import freed_memory_kept

MB = 10**6


def test_the_peak_is_in_gigabytes():
    code = "from saro.memory import peak_memory; block = b'x' * 300_000_000; print(peak_memory())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.3 < float(found.stdout) < 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc, on Linux alone")
def test_memory_kept_is_given_back_at_the_end():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    with freed_memory_kept():
        blocks = [bytearray(b"x") * MB for _ in range(300)]
        del blocks
        assert resident() > before + 200 * MB
    assert resident() < before + 100 * MB
