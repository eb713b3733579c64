import asyncio

import pytest

from saro.engines import asking
from saro.engines.asking import NOT_SENT, Asker, all_ended
from saro.engines.budget import Budget, Price, Spent
from saro.engines.ledger import Ledger, Spending
from saro.engines.provider import Answer, Fault, Request, Unanswered, Usage
from saro.errors import InputError

REQUEST = Request(system="s", user="u", max_tokens=10, temperature=0)
USED = Usage(input_tokens=7, output_tokens=3)
ANSWER = Answer(text="yes", finish="stop", usage=USED)
BUSY = Fault(reason="HTTP 503", again=True)


class Script:
    """Gives its answers in turn."""

    def __init__(self, *found):
        self.found = list(found)

    async def ask(self, request):
        found = self.found.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "backoff", lambda attempt, asked: 0.0)
    with Ledger(tmp_path / "r.sqlite") as opened:
        yield opened


def ask(ledger, provider, identity="m", attempts=3, budget=None, request=REQUEST, at_once=9):
    async def go():
        asker = Asker(identity, provider, ledger, budget or Budget(), Price(1, 1), attempts, at_once)
        return await asker.ask(request)

    return asyncio.run(go())


def test_what_is_known_is_not_asked_again(ledger):
    assert ask(ledger, Script(ANSWER)) == ANSWER
    assert ask(ledger, Script()) == ANSWER
    assert ask(ledger, None) == ANSWER


@pytest.mark.parametrize(
    "other",
    [{"identity": "n"}, {"request": REQUEST.model_copy(update={"sample": 1})}],
    ids=["another model", "another sample"],
)
def test_what_differs_is_asked(ledger, other):
    ask(ledger, Script(ANSWER))
    assert ask(ledger, Script(BUSY, ANSWER), **other) == ANSWER
    assert ledger.attempts() == 3


def test_faults_are_tried_again_as_often_as_allowed_and_anew_by_the_next_process(ledger):
    assert ask(ledger, Script(BUSY, BUSY, BUSY)) == BUSY
    assert ask(ledger, None) == BUSY
    assert ask(ledger, Script(BUSY, ANSWER)) == ANSWER
    assert ledger.attempts() == 5


def test_what_was_paid_for_and_will_not_do_is_not_asked_again(ledger):
    filtered = Fault(reason="content filter", again=False, usage=USED)
    assert ask(ledger, Script(filtered)) == filtered
    assert ask(ledger, Script()) == filtered
    other = REQUEST.model_copy(update={"sample": 1})
    wrong = Fault(reason="HTTP 400", again=False)  # unpaid: the server may have been mended
    assert ask(ledger, Script(wrong), request=other) == wrong
    assert ask(ledger, Script(ANSWER), request=other) == ANSWER


def test_without_a_provider_what_was_never_asked_is_a_fault(ledger):
    assert ask(ledger, None).reason == NOT_SENT
    assert ledger.attempts() == 0


def test_an_attempt_is_charged_what_it_took_and_at_most_what_nobody_knows(ledger):
    budget = Budget()
    ask(ledger, Script(Fault(reason="timed out", again=True, usage=None), BUSY, ANSWER), budget=budget)
    most = REQUEST.most_input_tokens + REQUEST.max_tokens
    assert budget.tokens == most + 0 + 10
    (spent,) = ledger.spent()
    assert spent.usage.input_tokens + spent.usage.output_tokens == budget.tokens
    assert spent.dollars == pytest.approx(budget.dollars)
    assert budget.dollars == pytest.approx(budget.tokens / 1e6)


def test_a_wrong_key_costs_nothing_and_stops(ledger):
    wrong = InputError("m", "the server answered HTTP 401", "set the key")
    budget = Budget()
    with pytest.raises(InputError):
        ask(ledger, Script(wrong), budget=budget)
    assert (ledger.spent(), budget.tokens) == ([Spending("m", Usage(), 0.0)], 0)
    assert ask(ledger, Script(ANSWER)) == ANSWER


def test_nothing_is_sent_that_the_budget_does_not_hold(ledger):
    with pytest.raises(Spent):
        ask(ledger, Script(), budget=Budget(tokens=REQUEST.most_input_tokens))
    assert ledger.attempts() == 0


def test_no_more_are_in_flight_than_may_be(ledger):
    class Slow:
        now = most = 0

        async def ask(self, request):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.005)
            self.now -= 1
            return ANSWER

    async def go():
        asker = Asker("m", slow, ledger, Budget(), None, attempts=1, at_once=3)
        await all_ended(asker.ask(REQUEST.model_copy(update={"sample": number})) for number in range(12))

    slow = Slow()
    asyncio.run(go())
    assert slow.most == 3


def test_all_end_before_a_failure_is_heard():
    ended = []

    async def one(number):
        await asyncio.sleep(0.01 * number)
        ended.append(number)
        if number == 1:
            raise ValueError(number)
        return number

    with pytest.raises(ValueError, match="1"):
        asyncio.run(all_ended(one(number) for number in range(4)))
    assert ended == [0, 1, 2, 3]


def test_what_may_have_been_answered_counts_at_its_most(ledger):
    budget = Budget()
    with pytest.raises(Unanswered):
        ask(ledger, Script(Unanswered("m", "a process has ended", "again")), budget=budget)
    most = REQUEST.most_input_tokens + REQUEST.max_tokens
    (spent,) = ledger.spent()
    assert budget.tokens == spent.usage.input_tokens + spent.usage.output_tokens == most
    assert ledger.attempts() == 1


def test_a_refusal_after_answers_leaves_what_was_in_flight_counted(ledger):
    wrong = InputError("m", "the server answered HTTP 401", "set the key")

    class Turning:
        async def ask(self, request):
            if request.sample == 0:
                return ANSWER
            if request.sample == 1:
                raise wrong
            await asyncio.sleep(60)
            return ANSWER

    async def go():
        asker = Asker("m", Turning(), ledger, Budget(), None, attempts=1, at_once=9)
        await asker.ask(REQUEST)
        pending = asyncio.create_task(asker.ask(REQUEST.model_copy(update={"sample": 2})))
        await asyncio.sleep(0.05)
        with pytest.raises(InputError):
            await asker.ask(REQUEST.model_copy(update={"sample": 1}))
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)

    asyncio.run(go())
    (spent,) = ledger.spent()
    assert spent.usage.output_tokens == USED.output_tokens + REQUEST.max_tokens
