"""The judge of reasoning: a model behind an API grades a chain from 0 to 10 by three named criteria."""

import json
import re

from pydantic import Field, ValidationError

from saro import chains
from saro.engines.asking import Asker
from saro.engines.provider import Answer, Request
from saro.records import Chain, Policy, Prompt, Record
from saro.templates import fence, render

_MAX_TOKENS = 2048  # a judge that reasons first needs them; another stops by itself
_TRIES = 3


class Grades(Record):
    """Grades of one chain, 0 to 10 each: does its reasoning apply the policy, speak of this request, tell the truth."""

    compliance: int = Field(ge=0, le=10, strict=True)
    relevance: int = Field(ge=0, le=10, strict=True)
    accuracy: int = Field(ge=0, le=10, strict=True)

    @property
    def total(self) -> int:
        """The sum, for a ranking."""
        return self.compliance + self.relevance + self.accuracy


class ReasoningJudge:
    """Grades chains by asking a model; a reply that holds no grades is asked for anew, and then said to be unscored."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def grade(self, prompt: Prompt, chain: Chain, policy: Policy) -> Grades | str:
        """The grades, or why there are none."""
        for sample in range(_TRIES):
            found = await self._asker.ask(grading_request(prompt, chain, policy, sample))
            if not isinstance(found, Answer):
                return found.reason
            if found.finish == "stop" and (grades := read_grades(found.text)) is not None:
                return grades
        return f"no grades in {_TRIES} replies"


def grading_request(prompt: Prompt, chain: Chain, policy: Policy, sample: int = 0) -> Request:
    """Asks for grades. Everything that others wrote is fenced and named as data."""
    parts = {"request": prompt.text, "reasoning": "\n\n".join(chain.steps), "answer": chain.answer}
    return Request(
        system=render("judge_reasoning", policy=policy),
        user="\n\n".join(f"The {name}:\n{fence(text)}" for name, text in parts.items()),
        max_tokens=_MAX_TOKENS,
        temperature=0.0 if sample == 0 else 1.0,
        sample=sample,
    )


def read_grades(text: str) -> Grades | None:
    """The grades in a judge's reply, which is one JSON object and nothing else but reasoning before it.

    An object inside other words may be a quotation of what was judged: that is no grade.
    """
    body = text.rpartition(chains.CLOSE)[2].strip()
    body = re.sub(r"^```(?:json)?\s*|\s*```$", "", body)
    if not re.fullmatch(r"\{[^{}]*\}", body):
        return None
    try:
        return Grades.model_validate(json.loads(body))
    except (ValueError, ValidationError):
        return None
