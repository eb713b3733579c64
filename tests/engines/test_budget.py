import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saro.engines.budget import Budget, Price, Spent, most_of
from saro.engines.provider import Request, Usage

PRICE = Price(input=2.0, output=8.0)


def usage(given_tokens, got_tokens):
    return Usage(input_tokens=given_tokens, output_tokens=got_tokens)


def test_a_price_is_for_a_million_tokens():
    assert PRICE.of(usage(1_000_000, 500_000)) == pytest.approx(2 + 4)


requests = st.lists(
    st.tuples(st.integers(1, 400), st.integers(1, 400), st.floats(0, 1), st.floats(0, 0.003)), min_size=1, max_size=30
)


@given(requests, st.integers(100, 5_000))
@settings(max_examples=60, deadline=None)
def test_however_many_are_in_flight_the_budget_is_never_exceeded(sizes, tokens):
    async def go():
        budget = Budget(dollars=tokens * 8e-6, tokens=tokens)
        refused: list[int] = []

        async def one(given_tokens, got_tokens, share, wait):
            most = usage(given_tokens, got_tokens)
            try:
                await budget.reserve(most, PRICE)
            except Spent:
                refused.append(given_tokens + got_tokens)
                return
            await asyncio.sleep(wait)
            await budget.settle(most, usage(int(given_tokens * share), int(got_tokens * share)), PRICE)
            assert budget.tokens <= tokens
            assert budget.dollars <= tokens * 8e-6 * (1 + 1e-9)

        await asyncio.gather(*(one(*size) for size in sizes))
        return budget, refused

    budget, refused = asyncio.run(go())
    assert all(budget.tokens + size > tokens for size in refused)


def test_a_request_waits_for_what_others_give_back():
    async def go():
        budget = Budget(tokens=100)
        await budget.reserve(usage(50, 40), None)
        waiting = asyncio.create_task(budget.reserve(usage(30, 20), None))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await budget.settle(usage(50, 40), usage(20, 10), None)
        await waiting
        with pytest.raises(Spent):  # 30 are spent, 50 reserved: even if all came back, 90 would be too many
            await asyncio.gather(budget.reserve(usage(50, 40), None), budget.settle(usage(30, 20), usage(30, 20), None))

    asyncio.run(go())


def test_what_an_earlier_process_spent_counts():
    async def go():
        budget = Budget(tokens=100)
        budget.count(usage(60, 30), 0.0)
        with pytest.raises(Spent):
            await budget.reserve(usage(10, 10), None)

    asyncio.run(go())


@given(st.text(max_size=200), st.text(max_size=200))
def test_input_is_reckoned_at_a_token_a_byte_at_least(system, user):
    request = Request(system=system, user=user, max_tokens=7, temperature=0)
    assert most_of(request).input_tokens >= len((system + user).encode())
    assert most_of(request).output_tokens == 7
