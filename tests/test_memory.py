"""Memory is measured stage by stage, and given back."""

import sys

import pytest

from saro.memory import freed_memory_kept, peak_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc, on Linux alone")
MB = 10**6


def test_the_peak_is_of_this_stretch_alone():
    with peak_memory() as peak:
        block = b"x" * (300 * MB)
        assert len(block) == 300 * MB
        del block
        high = peak()
    with peak_memory() as peak:
        low = peak()
    assert 0.25 < high - low < 0.6  # in GB


def test_memory_kept_is_given_back_at_the_end():
    with peak_memory() as peak:
        before = peak()
    with freed_memory_kept():
        blocks = [bytearray(MB) for _ in range(300)]
        del blocks
    with peak_memory() as peak:
        assert peak() < before + 0.1
