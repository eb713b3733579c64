"""A model asked through its provider's batch API, where Inspect has it: cheaper, each batch answered within a day."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from saro.engines.provider import Answer, Fault, Request, as_inspect, fault_of, open_model, read_output
from saro.errors import InputError

if TYPE_CHECKING:
    from inspect_ai.model import Model

PROVIDERS = ("openai/", "anthropic/", "google/", "grok/", "together/")
_GATHERING = 15.0  # seconds in which the requests of a batch are gathered
_LONGEST = 25 * 3600  # seconds; the providers promise a day


class BatchProvider:
    """Gathers requests into batches.

    Each batch has a model of its own, and Inspect's provider is asked beneath Inspect's retries: they would send again
    what the ledger does not see; and where a batch is not taken, Inspect sends none of that model's any more.

    Args:
        name: as for :class:`saro.engines.provider.Provider`; one of :data:`PROVIDERS`.
        url: address of the server; None: the provider's own.
        most: requests of one batch.
        arguments: passed on to Inspect's provider.

    Raises:
        InputError: the provider has no batch API; or as for ``Provider``.
    """

    def __init__(self, name: str, url: str | None, most: int, **arguments: Any) -> None:
        if not name.startswith(PROVIDERS):
            mend = f"leave synthesize.batch out, or take teacher and judge of {', '.join(PROVIDERS)}"
            raise InputError(name, "has no batch API", mend)
        self.name = name
        self._url, self._most, self._arguments = url, most, arguments
        self._models = [open_model(name, url, **arguments)]
        self._opened, self._gathered = time.monotonic(), 0

    async def ask(self, request: Request) -> Answer | Fault:
        """Send ``request`` once, with others. One line that Inspect cannot read makes it lose the whole batch.

        Raises:
            InputError: the server says that no request of ours will ever do (401, 403, 404).
        """
        from inspect_ai.model import BatchConfig

        messages, config = as_inspect(request)
        config.batch = BatchConfig(size=self._most, max_size=self._most, send_delay=_GATHERING)
        try:
            asked = self._gathering_model().api.generate(messages, [], "none", config)
            found = await asyncio.wait_for(asked, _LONGEST)
            output = found[0] if isinstance(found, tuple) else found
            if isinstance(output, Exception):
                raise output
        except Exception as error:
            fault = fault_of(error, self.name)
            return fault.model_copy(update={"reason": f"batch: {fault.reason}"})
        return read_output(output, request)

    async def close(self) -> None:
        """Close the connections."""
        for model in self._models:
            await model.api.aclose()

    def _gathering_model(self) -> "Model":
        now = time.monotonic()
        if self._gathered == self._most or (self._gathered and now - self._opened > _GATHERING):
            self._models.append(open_model(self.name, self._url, **self._arguments))
            self._gathered = 0
        if not self._gathered:
            self._opened = now
        self._gathered += 1
        return self._models[-1]
