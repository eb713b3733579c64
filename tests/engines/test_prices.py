import pytest

from saro.engines.budget import Price
from saro.engines.prices import known_price

pytest.importorskip("genai_prices", reason="list prices need genai-prices: pip install 'saro[live]'")


def test_a_list_price_is_known_by_inspects_name():
    assert known_price("openai/gpt-4o", None) == Price(input=2.5, output=10.0)


def test_providers_that_are_called_otherwise_there_are_found():
    assert known_price("grok/grok-3", None) is not None


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("openai/gpt-4o", "http://127.0.0.1:8000/v1"),
        ("openai/nobody-knows", None),
        ("nobody/gpt-4o", None),
        ("mockllm/model", None),
        ("gpt-4o", None),
    ],
)
def test_what_has_no_list_price_has_none(model, url):
    assert known_price(model, url) is None


def test_the_dearest_hour_counts():
    price = known_price("deepseek/deepseek-chat", None)
    assert price == known_price("openai-api/deepseek/deepseek-chat", None)
    assert (price.input, price.output) == (pytest.approx(0.27), pytest.approx(1.1))


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "INSPECT_EVAL_MODEL_BASE_URL"])
def test_an_address_in_the_environment_is_an_address(monkeypatch, name):
    monkeypatch.setenv(name, "http://127.0.0.1:8000/v1")
    assert known_price("openai/gpt-4o", None) is None
