"""List prices of models known by name, from the data that the package ``genai-prices`` ships; nothing is fetched."""

import os
import re
from datetime import UTC, datetime

from saro.engines.budget import Price

# Inspect's names of providers that go by another name there; all others are tried as they are.
_PROVIDERS = {"bedrock": "aws", "grok": "x-ai", "azureai": "azure"}
_SAMPLE = 10_000  # tokens: where long requests are dearer, this is below the threshold


def known_price(model: str, url: str | None) -> Price | None:
    """The list price of ``model`` as Inspect names it (``openai/gpt-4o``); None where none is known.

    A model behind an address of one's own, given or in an environment variable, has no list price, whatever its name.
    Where it differs by the hour, the dearest counts.
    """
    provider, _, name = model.removeprefix("openai-api/").partition("/")
    service = re.sub(r"\W", "_", provider).upper()
    if url is not None or any(os.environ.get(key) for key in (f"{service}_BASE_URL", "INSPECT_EVAL_MODEL_BASE_URL")):
        return None
    try:
        from genai_prices import Usage, calc_price
    except ModuleNotFoundError:
        return None
    try:
        found = [
            calc_price(
                Usage(input_tokens=_SAMPLE, output_tokens=_SAMPLE),
                model_ref=name,
                provider_id=_PROVIDERS.get(provider, provider),
                genai_request_timestamp=datetime.now(UTC).replace(hour=hour),
            )
            for hour in range(24)
        ]
    except (LookupError, ValueError):
        return None
    scale = 1e6 / _SAMPLE
    return Price(
        input=max(float(one.input_price) for one in found) * scale,
        output=max(float(one.output_price) for one in found) * scale,
    )
