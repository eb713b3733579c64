"""The contract of a teacher, and recorded replies behind it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from saro.errors import InputError
from saro.files import read_jsonl
from saro.records import Policy, Prompt, Reply


class Teacher(Protocol):
    """Whoever answers prompts in chain form: a recording, or a model behind an API."""

    async def policy(self, prompt: Prompt) -> Policy | str | None:
        """The policy that applies; None: any; a text: why it could not be found out."""

    async def replies(self, prompt: Prompt, policy: Policy | None) -> list[Reply]:
        """Its replies to ``prompt``, word for word; one whose request failed says so in ``fault``."""


class RecordedTeacher:
    """Replays the replies of a JSON-lines file of :class:`Reply` rows, word for word."""

    def __init__(self, path: Path, policies: Mapping[str, Policy]) -> None:
        self._path, self._policies = path, policies
        self._replies: dict[str, list[Reply]] = {}
        for reply in read_jsonl(path, Reply):
            self._replies.setdefault(reply.prompt_id, []).append(reply)

    async def policy(self, prompt: Prompt) -> Policy | None:
        """The policy of the prompt's category; any, where it has none."""
        return self._policies.get(prompt.category)

    async def replies(self, prompt: Prompt, policy: Policy | None) -> list[Reply]:
        """The recorded replies.

        Raises:
            InputError: the recording does not answer the prompt.
        """
        if prompt.id not in self._replies:
            raise InputError(
                self._path, f"no recorded reply to prompt {prompt.id!r}", "record one, or leave the prompt out"
            )
        return self._replies[prompt.id]
