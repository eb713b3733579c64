"""List prices of models known by name, from the data that the package ``genai-prices`` ships; nothing is fetched."""

from saro.engines.budget import Price

# Inspect's names of providers that go by another name there; all others are tried as they are.
_PROVIDERS = {"bedrock": "aws", "grok": "x-ai", "azureai": "azure"}
_SAMPLE = 10_000  # tokens: where long requests are dearer, this is below the threshold


def known_price(model: str, url: str | None) -> Price | None:
    """The list price of ``model`` as Inspect names it (``openai/gpt-4o``); None where none is known.

    A model behind an address of one's own has no list price, whatever its name.
    """
    if url is not None:
        return None
    provider, _, name = model.removeprefix("openai-api/").partition("/")
    try:
        from genai_prices import Usage, calc_price
    except ModuleNotFoundError:
        return None
    try:
        found = calc_price(
            Usage(input_tokens=_SAMPLE, output_tokens=_SAMPLE),
            model_ref=name,
            provider_id=_PROVIDERS.get(provider, provider),
        )
    except (LookupError, ValueError):
        return None
    scale = 1e6 / _SAMPLE
    return Price(input=float(found.input_price) * scale, output=float(found.output_price) * scale)
