"""A run's budget in dollars and tokens: reserved before a request is sent, settled when it has ended."""

import asyncio
from dataclasses import dataclass

from saro.engines.provider import Request, Usage


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens."""

    input: float
    output: float

    def of(self, usage: Usage) -> float:
        """Dollars for ``usage``."""
        return (usage.input_tokens * self.input + usage.output_tokens * self.output) / 1e6


class Spent(Exception):
    """The budget does not hold another request."""


class Budget:
    """What may be spent, what is, and what requests in flight may still take.

    A request reserves the most that it can cost; so however many are in flight, the sum stays within the budget.
    Where too little is left, a request waits for others to give back what they did not need.

    Args:
        dollars: most to spend; None: no limit. What has no price counts as nothing.
        tokens: most to use, input and output together; None: no limit.
    """

    def __init__(self, dollars: float | None = None, tokens: int | None = None) -> None:
        self._most_dollars, self._most_tokens = dollars, tokens
        self.dollars, self.tokens = 0.0, 0
        self._reserved_dollars, self._reserved_tokens = 0.0, 0
        self._in_flight = 0
        self._changed = asyncio.Condition()

    def count(self, usage: Usage, dollars: float) -> None:
        """Count what was spent: by a request that has ended, or by an earlier process."""
        self.dollars += dollars
        self.tokens += usage.input_tokens + usage.output_tokens

    async def reserve(self, most: Usage, price: Price | None) -> None:
        """Set aside ``most``; waits while requests in flight may give back enough.

        Raises:
            Spent: it does not fit, and nothing in flight could change that.
        """
        dollars = price.of(most) if price else 0.0
        tokens = most.input_tokens + most.output_tokens
        async with self._changed:
            while not self._fits(dollars, tokens):
                if self._in_flight == 0:
                    raise Spent
                await self._changed.wait()
            self._reserved_dollars += dollars
            self._reserved_tokens += tokens
            self._in_flight += 1

    async def settle(self, most: Usage, used: Usage, price: Price | None) -> None:
        """Replace what was set aside by what was used."""
        async with self._changed:
            self._reserved_dollars -= price.of(most) if price else 0.0
            self._reserved_tokens -= most.input_tokens + most.output_tokens
            self._in_flight -= 1
            self.count(used, price.of(used) if price else 0.0)
            self._changed.notify_all()

    def _fits(self, dollars: float, tokens: int) -> bool:
        rich = self._most_dollars is None or self.dollars + self._reserved_dollars + dollars <= self._most_dollars
        short = self._most_tokens is not None and self.tokens + self._reserved_tokens + tokens > self._most_tokens
        return rich and not short


def most_of(request: Request) -> Usage:
    """The most that one attempt of ``request`` can take."""
    return Usage(input_tokens=request.most_input_tokens, output_tokens=request.max_tokens)
