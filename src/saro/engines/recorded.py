"""Recorded replies behind the contract of a live teacher."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from saro.errors import InputError
from saro.files import read_jsonl, sha256_file
from saro.records import Prompt, Reply


class Teacher(Protocol):
    """Whoever answers prompts in chain form: a recording, or a model behind an API."""

    @property
    def identity(self) -> str:
        """Content hash or name: changes when the replies could."""

    def replies(self, prompts: Sequence[Prompt]) -> Iterator[Reply]:
        """Yield the replies to ``prompts``, raw; one or more a prompt, in any order."""


class RecordedTeacher:
    """Replays the replies of a JSON-lines file of :class:`Reply` rows, word for word."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._replies: dict[str, list[Reply]] = {}
        for reply in read_jsonl(path, Reply):
            self._replies.setdefault(reply.prompt_id, []).append(reply)

    @property
    def identity(self) -> str:
        """SHA-256 of the recording."""
        return sha256_file(self._path)

    def replies(self, prompts: Sequence[Prompt]) -> Iterator[Reply]:
        """Yield the recorded replies, prompt by prompt.

        Raises:
            InputError: a prompt that the recording does not answer.
        """
        for prompt in prompts:
            if prompt.id not in self._replies:
                raise InputError(
                    self._path, f"no recorded reply to prompt {prompt.id!r}", "record one, or leave the prompt out"
                )
            yield from self._replies[prompt.id]
