"""Live progress: a bar with the time left on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from saro.processes import is_main_process

_PLAIN_INTERVAL = 15.0  # seconds between plain lines of one task


class Task(Protocol):
    """One piece of work in progress."""

    def update(self, done: float, note: str = "") -> None:
        """Say how much of the total is done, and optionally a short note (a loss, a speed)."""


class Reporter(Protocol):
    """Where progress and remarks go."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def task(self, name: str, total: float) -> AbstractContextManager[Task]:
        """Begin a task of ``total`` units; a context manager that gives a :class:`Task`."""


def reporter(console: Console | None = None) -> Reporter:
    """A live reporter on a terminal, a plain one elsewhere; of several processes only the first one speaks."""
    if not is_main_process():
        return Silent()
    console = console or Console(stderr=True)
    return _Live(console) if console.is_terminal else _Plain(console)


class Silent:
    """Says nothing; for callers that want none of it."""

    def say(self, text: str) -> None:
        """Drop the line."""

    @contextmanager
    def task(self, name: str, total: float) -> Iterator[Task]:
        """A task whose updates go nowhere."""
        yield _SilentTask()


class _SilentTask:
    def update(self, done: float, note: str = "") -> None:
        pass


class _Live:
    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    @contextmanager
    def task(self, name: str, total: float) -> Iterator[Task]:
        columns = (
            TextColumn("  {task.description:<26}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
        )
        with Progress(*columns, console=self._console) as bar:
            yield _LiveTask(bar, name, total)


class _LiveTask:
    def __init__(self, bar: Progress, name: str, total: float) -> None:
        self._bar = bar
        self._id = bar.add_task(name, total=total, note="")

    def update(self, done: float, note: str = "") -> None:
        self._bar.update(self._id, completed=done, note=note)


class _Plain:
    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, name: str, total: float) -> Iterator[Task]:
        yield _PlainTask(self, name, total)


class _PlainTask:
    def __init__(self, plain: _Plain, name: str, total: float) -> None:
        self._plain, self._name, self._total = plain, name, total
        self._started = self._spoken = time.monotonic()
        self._first: float | None = None

    def update(self, done: float, note: str = "") -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = done  # what an earlier run had done says nothing of this one's speed
        if done < self._total and now - self._spoken < _PLAIN_INTERVAL:
            return
        self._spoken = now
        elapsed, advanced = now - self._started, done - self._first
        left = f"{elapsed / advanced * (self._total - done):.0f} s left" if advanced > 0 else "time left unknown"
        share = 100 * done / self._total if self._total else 100
        self._plain.say(f"  {self._name}: {share:3.0f} %, {elapsed:.0f} s, {left}{', ' + note if note else ''}")
