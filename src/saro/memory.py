"""The process's memory: how much a stage took at most, and what glibc does with what is freed."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """While it lasts, let glibc keep freed memory instead of giving it back to the kernel; give it back at the end.

    Training frees and allocates the same large buffers each step, and refaulting their pages takes time
    (benchmarks/allocator.py). Sampling, whose buffers grow, would only pile them up. Elsewhere than on Linux with
    glibc this does nothing.
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


@contextmanager
def peak_memory() -> Iterator[Callable[[], float | None]]:
    """Measure the most memory that the process held at once while it lasts.

    Yields:
        A function that says so far how much, in GB (10⁹ bytes) of resident memory; None elsewhere than on Linux.
    """
    _give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, proc(5)
    except OSError:
        yield lambda: None
        return
    yield _peak
    _give_back()


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


def _give_back() -> None:
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
