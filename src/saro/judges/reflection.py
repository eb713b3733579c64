"""Whether a reasoning step reflects: which policy it names, and where."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from saro.records import Reflection

REFLECTS, NONE = "reflects", "none"


@dataclass(frozen=True)
class Step:
    """A reasoning step with what stands before it: the prompt, and the earlier steps of its chain."""

    prompt: str
    before: tuple[str, ...]
    text: str


class ReflectionJudge(Protocol):
    """Says of steps whether they reflect."""

    def judge(self, steps: Sequence[Step]) -> list[Reflection]:
        """A verdict for each step, in order; one that cannot be judged is unscored."""


def named_policy(text: str, policies: Sequence[str]) -> tuple[str, tuple[int, int]] | None:
    """The first policy that ``text`` names (``the fraud policy``, ``a policy on self-harm``), and where it does."""
    names = "|".join(re.escape(name).replace(r"\-", "[- ]") for name in sorted(policies, key=len, reverse=True))
    pattern = rf"\b(?:({names})[- ]polic(?:y|ies)|polic(?:y|ies) (?:on|about|for|of) ({names}))\b"
    match = re.search(pattern, text, re.IGNORECASE)
    if match is None:
        return None
    name = (match[1] or match[2]).lower().replace(" ", "-")
    return name, match.span()
