"""Text ↔ chain: ``<think>``, steps separated by a blank line, ``</think>``, blank line, answer.

This is the form that vLLM, SGLang and the open reasoning models already parse. What does not have it is a typed
failure, never an exception and never a guess.
"""

import re
from dataclasses import dataclass
from typing import Literal

from saro.records import Chain

OPEN, CLOSE = "<think>", "</think>"
FailureReason = Literal["no-reasoning", "unclosed", "empty-reasoning", "empty-answer", "stray-tag"]


@dataclass(frozen=True)
class ParseFailure:
    """Why a text is no chain.

    Attributes:
        reason: ``no-reasoning`` (does not begin with ``<think>``), ``unclosed`` (no ``</think>``), ``empty-reasoning``,
            ``empty-answer``, or ``stray-tag`` (a second ``<think>`` or ``</think>``).
        answer: what may still be judged as an answer: the whole text where there is no reasoning, else "".
    """

    reason: FailureReason
    answer: str


def segment(reasoning: str) -> tuple[str, ...]:
    """Split reasoning into steps at blank lines; steps are stripped and never empty."""
    return tuple(step for part in re.split(r"\r?\n[ \t]*\r?\n", reasoning) if (step := part.strip()))


def parse(text: str) -> Chain | ParseFailure:
    """Parse a reply into a chain; total: every text gives a chain or a typed failure."""
    body = text.strip()
    if not body.startswith(OPEN):
        tagged = OPEN in body or CLOSE in body
        return ParseFailure("stray-tag", "") if tagged else ParseFailure("no-reasoning", body)
    reasoning, closed, answer = body[len(OPEN) :].partition(CLOSE)
    if not closed:
        return ParseFailure("unclosed", "")
    if OPEN in reasoning or OPEN in answer or CLOSE in answer:
        return ParseFailure("stray-tag", "")
    steps = segment(reasoning)
    if not steps:
        return ParseFailure("empty-reasoning", answer.strip())
    if not answer.strip():
        return ParseFailure("empty-answer", "")
    return Chain(steps=steps, answer=answer.strip())


def render(chain: Chain) -> str:
    """The text of a chain; ``parse(render(chain)) == chain`` for stripped steps without blank lines or tags."""
    return f"{render_reasoning(chain)}\n\n{chain.answer}"


def render_reasoning(chain: Chain) -> str:
    """The text of a chain up to and with ``</think>``."""
    return f"{OPEN}\n" + "\n\n".join(chain.steps) + f"\n{CLOSE}"
