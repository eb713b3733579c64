"""A model behind an API as judge of reasoning steps: what it said is kept, and nothing is paid for twice."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from saro.engines.asking import Asker, all_ended
from saro.engines.budget import Budget, Price, Spent
from saro.engines.ledger import Ledger
from saro.engines.prices import known_price
from saro.engines.provider import Provider
from saro.errors import InputError
from saro.files import locked
from saro.judges.llm import LLMJudge
from saro.judges.reflection import NONE, REFLECTS, Step, named_policy
from saro.progress import Reporter
from saro.records import Reflection

_CONNECTIONS = 64
_TIMEOUT = 300.0  # seconds for one attempt
_ATTEMPTS = 6


class AskedReflectionJudge:
    """Says of steps whether they reflect, as :class:`saro.judges.reflection.ReflectionJudge`, by asking a model.

    Args:
        model: as Inspect writes it: ``openai/gpt-4o``, ``openai-api/<service>/<model>``.
        url: address of an OpenAI-compatible server; None: the provider's own.
        policies: ids of the policies that a step may name.
        ledger: file of what was asked and answered; the same file again goes on from there.
        budget: most dollars, those of earlier processes with the same ledger included; None: no limit.
        price: dollars a million tokens, in and out; None: the list price, where known.
        reporter: where progress goes.

    Raises:
        InputError: a budget for a model without a price; no such provider, or its key or package is missing.
    """

    def __init__(
        self,
        model: str,
        url: str | None,
        policies: Sequence[str],
        ledger: Path,
        budget: float | None,
        price: tuple[float, float] | None,
        reporter: Reporter,
    ) -> None:
        self._model, self._url, self._policies = model, url, policies
        self._ledger, self._dollars, self._reporter = ledger, budget, reporter
        self._price = Price(*price) if price else known_price(model, url)
        if self._price is None and budget is not None:
            raise InputError(
                "rollout.reflection_price",
                "is missing: a budget in dollars needs the model's price, and none is known",
                "give it in dollars a million tokens, in and out: [2.5, 10]",
            )
        self._provider = Provider(model, url, _CONNECTIONS, _TIMEOUT)

    def judge(self, steps: Sequence[Step]) -> list[Reflection]:
        """A verdict for each step, in order; one that could not be had is unscored. To be called once.

        Raises:
            InputError: the model cannot be reached, or will take no request of ours; the budget was reached before
                every step was judged; another process is at work.
        """
        self._ledger.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._ledger.with_suffix(".lock"), self._ledger.parent), Ledger(self._ledger) as ledger:
            budget = Budget(self._dollars)
            for spending in ledger.spent():
                price = self._price if spending.model == self._identity else None  # of what had none when it was sent
                unpriced = price.of(spending.usage) if price else 0.0
                budget.count(spending.usage, unpriced if spending.dollars is None else spending.dollars)
            if ledger.lost:
                self._reporter.say(f"{ledger.lost} requests were in flight when an earlier process ended")
            try:
                return asyncio.run(self._ask(steps, ledger, budget))
            except Spent:
                raise InputError(
                    "rollout.reflection_budget",
                    "was reached before every step was judged",
                    "raise it; what was paid for is kept",
                ) from None
            finally:
                dollars = f", {budget.dollars:.2f} dollars" if self._price else ""
                self._reporter.say(f"{ledger.attempts()} requests to {self._identity} so far{dollars}")

    @property
    def _identity(self) -> str:
        return f"{self._model} at {self._url}" if self._url else self._model

    async def _ask(self, steps: Sequence[Step], ledger: Ledger, budget: Budget) -> list[Reflection]:
        judge = LLMJudge(Asker(self._identity, self._provider, ledger, budget, self._price, _ATTEMPTS, _CONNECTIONS))
        found: dict[int, Reflection] = {}
        waiting = iter(enumerate(steps))
        with self._reporter.task("judging steps", len(steps)) as progress:

            async def work() -> None:
                for place, step in waiting:
                    found[place] = await self._verdict(step, judge)
                    progress.update(len(found))

            try:
                await all_ended(work() for _ in range(_CONNECTIONS * 5 // 4))
            finally:
                await self._provider.close()
        return [found[place] for place in range(len(steps))]

    async def _verdict(self, step: Step, judge: LLMJudge) -> Reflection:
        if not step.text:
            return Reflection(judge=self._identity, unscored="no words in it")
        found = await judge.step(step)
        if isinstance(found, str):
            return Reflection(judge=self._identity, unscored=found)
        if not found.reflects:
            return Reflection(judge=self._identity, label=NONE)
        start = step.text.find(found.evidence) if found.evidence else -1
        evidence = (
            (start, start + len(found.evidence or "")) if start >= 0 else None
        )  # words that do not stand there: none
        named = named_policy(step.text, self._policies)
        return Reflection(judge=self._identity, label=REFLECTS, evidence=evidence, policy=named[0] if named else None)
