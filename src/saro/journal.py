"""Crash-safe store of finished units of work: what is in the journal is never done again."""

import json
import sqlite3
from pathlib import Path
from typing import Any, Self


class Journal:
    """Finished units by key, in SQLite with write-ahead logging; a unit is on disk before :meth:`put` returns.

    Keys are content hashes of everything that a unit's result depends on, so a unit survives any change of the
    configuration that does not concern it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS units (key TEXT PRIMARY KEY, stage TEXT NOT NULL, payload TEXT NOT NULL)"
        )

    def get(self, key: str) -> Any | None:
        """The payload of a finished unit, or None."""
        row = self._connection.execute("SELECT payload FROM units WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, stage: str, payload: Any) -> None:
        """Store a finished unit; ``payload`` is anything that JSON can hold."""
        text = json.dumps(payload, ensure_ascii=False)
        self._connection.execute("INSERT OR REPLACE INTO units VALUES (?, ?, ?)", (key, stage, text))

    def close(self) -> None:
        """Close the data base; the journal is not used after it."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
