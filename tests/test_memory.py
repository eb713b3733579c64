"""Memory: its peak is told, and what was kept is given back."""

import sys
from pathlib import Path

import pytest

from saro.memory import freed_memory_kept, peak_memory

MB = 10**6


def test_the_peak_is_in_gigabytes():
    before = peak_memory()
    assert 0.01 < before < 100
    block = b"x" * (300 * MB)
    assert peak_memory() >= max(before, len(block) / 1e9)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc, on Linux alone")
def test_memory_kept_is_given_back_at_the_end():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    with freed_memory_kept():
        blocks = [bytearray(MB) for _ in range(300)]
        del blocks
    assert resident() < before + 100 * MB
