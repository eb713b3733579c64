"""What was asked of models behind APIs and what it took, in SQLite: on disk before it counts, written in groups."""

import errno
import json
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

from saro.engines.provider import Answer, Fault, Usage
from saro.errors import InputError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, payload TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS attempts (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, state TEXT NOT NULL,
    input INTEGER NOT NULL, output INTEGER NOT NULL, dollars REAL
);
"""


@dataclass(frozen=True)
class Spending:
    """What attempts at one model took; ``dollars`` is None where no price was known when they were sent."""

    model: str
    usage: Usage
    dollars: float | None


_Write: TypeAlias = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]


class Ledger:
    """Results by key, and every attempt with what it took at most (in flight, or lost) or in truth (ended).

    Writes go through one thread that commits all that wait together: a commit's fsync is shared by the requests in
    flight. A write's future is done when it is on disk.

    Attributes:
        lost: attempts that were in flight when an earlier process ended; they may be paid twice, and count as spent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._reading = sqlite3.connect(path, isolation_level=None)
            self._reading.execute("PRAGMA journal_mode=WAL")
            self._reading.executescript(_SCHEMA)
            columns = {row[1] for row in self._reading.execute("PRAGMA table_info(attempts)")}
            if "dollars" not in columns:  # written before they were kept: NULL, as where no price was known
                self._reading.execute("ALTER TABLE attempts ADD COLUMN dollars REAL")
            self._reading.execute("UPDATE attempts SET state = 'lost' WHERE state = 'begun'")
        except sqlite3.Error as error:
            raise _told(error, path) from None
        self.lost = int(self._reading.execute("SELECT count(*) FROM attempts WHERE state = 'lost'").fetchone()[0])
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._writer.start()

    def result(self, key: str) -> Answer | Fault | None:
        """What the request of this key came to; None: it was not asked, or never ended."""
        row = self._reading.execute("SELECT payload FROM results WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        payload = json.loads(row[0])
        return Fault.model_validate(payload) if "reason" in payload else Answer.model_validate(payload)

    def spent(self) -> list[Spending]:
        """What ended attempts took, and at most took where nobody knows; by model, the unpriced apart."""
        rows = self._reading.execute(
            "SELECT model, sum(input), sum(output), sum(dollars) FROM attempts"
            " GROUP BY model, dollars IS NULL ORDER BY model, dollars IS NULL"
        )
        return [Spending(model, Usage(input_tokens=given, output_tokens=got), paid) for model, given, got, paid in rows]

    def attempts(self) -> int:
        """Number of attempts, of all processes."""
        return int(self._reading.execute("SELECT count(*) FROM attempts").fetchone()[0])

    def begin(self, model: str, most: Usage, dollars: float | None) -> "Future[int]":
        """Note an attempt before it is sent, at its most (``dollars`` None: it has no price); its number."""

        def insert(connection: sqlite3.Connection) -> int | None:
            values = (model, most.input_tokens, most.output_tokens, dollars)
            return connection.execute(
                "INSERT INTO attempts (model, state, input, output, dollars) VALUES (?, 'begun', ?, ?, ?)", values
            ).lastrowid

        return self._enqueue(insert)

    def end(self, attempt: int, used: Usage, dollars: float | None, key: str, result: Answer | Fault) -> "Future[None]":
        """Note what an attempt took, and what its request came to so far."""
        payload = result.model_dump_json()

        def update(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE attempts SET state = 'ended', input = ?, output = ?, dollars = ? WHERE id = ?",
                (used.input_tokens, used.output_tokens, dollars, attempt),
            )
            connection.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (key, payload))

        return self._enqueue(update)

    def close(self) -> None:
        """Write what waits, and close."""
        self._waiting.put(None)
        self._writer.join()
        self._reading.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enqueue(self, write: Callable[[sqlite3.Connection], Any]) -> "Future[Any]":
        done: Future[Any] = Future()
        self._waiting.put((write, done))
        return done

    def _write(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA synchronous=FULL")
        last = False
        while not last:
            group = [self._waiting.get()]
            while not self._waiting.empty():
                group.append(self._waiting.get())
            last = None in group
            self._commit(connection, [write for write in group if write is not None])
        connection.close()

    def _commit(self, connection: sqlite3.Connection, group: list[_Write]) -> None:
        if not group:
            return
        # Who waits may have been cancelled; what it asked to write is paid for, and is written all the same.
        awaited = [done.set_running_or_notify_cancel() for _, done in group]
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [write(connection) for write, _ in group]
            connection.execute("COMMIT")
        except Exception as error:  # whatever it is, whoever waits must hear of it
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = _told(error, self._path)
            for (_, done), waits in zip(group, awaited, strict=True):
                if waits:
                    done.set_exception(failure)
            return
        for (_, done), result, waits in zip(group, results, awaited, strict=True):
            if waits:
                done.set_result(result)


def _told(error: Exception, path: Path) -> Exception:
    """A data base's error as the user should read it: a full disk, or a file that is no ledger."""
    if not isinstance(error, sqlite3.Error):
        return error
    primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF  # extended codes keep it in the lowest byte
    if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return OSError(errno.ENOSPC, str(error), str(path))
    return InputError(path, f"cannot be used as a ledger ({error})", "move it away, or name another folder")
