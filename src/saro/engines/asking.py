"""Asking a model behind an API many things: each answer on disk before it counts, none paid twice, within a budget."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from saro.engines.budget import Budget, Price, most_of
from saro.engines.ledger import Ledger
from saro.engines.provider import Answer, Fault, Request, Unanswered, Usage, backoff
from saro.errors import InputError
from saro.files import sha256_json

_Result = TypeVar("_Result")

NOT_SENT = "not sent: the budget was reached"


async def all_ended(work: "Iterable[Coroutine[Any, Any, _Result]]") -> list[_Result]:
    """The results, in order, once all have ended: what is in flight is paid for, also where another one failed."""
    found = await asyncio.gather(*work, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return [one for one in found if not isinstance(one, BaseException)]


class Model(Protocol):
    """Whoever answers requests: a provider, or several processes of it."""

    async def ask(self, request: Request) -> Answer | Fault:
        """Send ``request`` once."""


class Asker:
    """Asks one model. Several askers (teacher and judge) may share a ledger and a budget.

    Args:
        identity: model and address; part of every key.
        provider: the model; None: only what the ledger holds is given, nothing is sent.
        ledger: where answers are kept.
        budget: of the run.
        price: of this model; None: dollars are not counted.
        attempts: most attempts at one request before its fault stands.
        at_once: most requests in flight; the others wait before they are noted as sent.
    """

    def __init__(
        self,
        identity: str,
        provider: Model | None,
        ledger: Ledger,
        budget: Budget,
        price: Price | None,
        attempts: int,
        at_once: int,
    ) -> None:
        self.identity = identity
        self._provider, self._ledger, self._budget = provider, ledger, budget
        self._price, self._attempts = price, attempts
        self._room = asyncio.Semaphore(at_once)
        self._asking: dict[str, asyncio.Event] = {}
        self._refusal: InputError | None = None
        self._answered = False

    async def ask(self, request: Request) -> Answer | Fault:
        """The answer, from the ledger where it is there.

        A fault is kept too, so that it can be told; a later process tries again. Without a provider, what the ledger
        does not hold is a fault: nothing was sent.

        Raises:
            Spent: the budget does not hold another attempt.
            InputError: the server will take no request of ours.
        """
        key = sha256_json([self.identity, request.model_dump()])
        while (other := self._asking.get(key)) is not None:
            await other.wait()  # the same request of another prompt is in flight: it is paid once
        found = self._ledger.result(key)
        if isinstance(found, Answer) or (found and found.final):
            return found
        if self._provider is None:
            return found or Fault(reason=NOT_SENT, again=True)
        ended = self._asking[key] = asyncio.Event()
        try:
            return await self._until_it_succeeds(self._provider, key, request)
        finally:
            del self._asking[key]
            ended.set()

    async def _until_it_succeeds(self, provider: Model, key: str, request: Request) -> Answer | Fault:
        attempt = 1
        while True:
            async with self._room:
                found = await self._attempt(provider, key, request)
            if isinstance(found, Answer) or not found.again or attempt == self._attempts:
                return found
            await asyncio.sleep(backoff(attempt, found.wait))
            attempt += 1

    async def _attempt(self, provider: Model, key: str, request: Request) -> Answer | Fault:
        if self._refusal is not None:
            raise self._refusal
        most = most_of(request)
        await self._budget.reserve(most, self._price)
        used = most
        try:
            number = await asyncio.wrap_future(self._ledger.begin(self.identity, most, self._dollars(most)))
            try:
                found = await provider.ask(request)
            except (InputError, asyncio.CancelledError) as stopped:
                if isinstance(stopped, InputError):
                    self._refusal = stopped
                if self._cost_nothing(stopped):
                    used = Usage()
                    refusal = Fault(reason="refused by the server", again=False)
                    written = self._ledger.end(number, used, self._dollars(used), key, refusal)
                    if isinstance(stopped, InputError):
                        await asyncio.wrap_future(written)
                raise
            self._answered = True
            if found.usage is not None:
                used = found.usage
            await asyncio.wrap_future(self._ledger.end(number, used, self._dollars(used), key, found))
        finally:
            await self._budget.settle(most, used, self._price)
        return found

    def _cost_nothing(self, stopped: BaseException) -> bool:
        """Whether an attempt that ended so is free: the server refused it, or will, as it did all before it."""
        if isinstance(stopped, Unanswered) or isinstance(self._refusal, Unanswered):
            return False
        return isinstance(stopped, InputError) or (self._refusal is not None and not self._answered)

    def _dollars(self, usage: Usage) -> float | None:
        return self._price.of(usage) if self._price else None
