"""The process's memory: how much it held at most, and what glibc does with what is freed."""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """While it lasts, let glibc keep freed memory instead of giving it back to the kernel; give it back at the end.

    Training frees and allocates much the same buffers each step, and refaulting their pages takes time
    (benchmarks/allocator.py). Elsewhere than on Linux with glibc this does nothing.
    """
    libc = _libc()
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, 2**31 - 1)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, 4 * 2**20)  # what is larger goes back to the kernel as soon as it is freed
        libc.mallopt(_TRIM_THRESHOLD, 64 * 2**20)
        libc.malloc_trim(0)


def peak_memory() -> float:
    """The most memory that this process has held at once so far, in GB (10⁹ bytes) of resident memory."""
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2) counts bytes there, kilobytes elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9  # getrusage would count a parent's memory too


def bound_kernel_cache() -> None:
    """Let oneDNN keep few kernels: one for every length of a batch adds up to gigabytes in a training.

    To be called before PyTorch first computes; a capacity that the user has set stays.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")


def give_back() -> None:
    """Give freed memory back to the kernel, where the C library can."""
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)


def _libc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt, libc.malloc_trim  # noqa: B018  not there in other C libraries
    except (OSError, AttributeError):
        return None
    return libc
