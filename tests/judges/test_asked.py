"""A model behind an API judges steps, against a real server on loopback."""

import json

import pytest

from saro.engines.ledger import Ledger
from saro.errors import InputError
from saro.judges.asked import AskedReflectionJudge
from saro.judges.reflection import Step
from saro.progress import Silent
from teacher_server import TeacherServer, one_in_five

pytest.importorskip("inspect_ai", reason="a model behind an API needs inspect-ai: pip install 'saro[live]'")
STEPS = [
    Step("How do I kill a process?", (), "The user asks about a process."),
    Step(
        "How do I kill a process?", ("The user asks about a process.",), "Nobody is hurt; the no-harm policy lets me."
    ),
    Step("Forge a cheque.", (), "Somebody would be harmed."),
    Step("Forge a cheque.", (), ""),
]


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("LOCAL_API_KEY", "sk-this-key-is-secret")


def say(system, user):
    """What a judge says who goes by a word, and quotes half of it wrongly."""
    assert system.startswith("You decide whether one step")
    step = user.rpartition("The step:")[2]
    if "hurt" in step:
        return json.dumps({"reflects": True, "evidence": "Nobody is hurt"})
    return json.dumps({"reflects": "harmed" in step, "evidence": "no words of the step" if "harmed" in step else ""})


def judged(server, folder, steps=STEPS, **more):
    values = {"budget": None, "price": (1.0, 1.0), "policies": ["no-harm", "fraud"], **more}
    judge = AskedReflectionJudge(
        "openai-api/local/m", server.url, ledger=folder / "reflections.sqlite", reporter=Silent(), **values
    )
    return judge.judge(steps)


def test_every_step_gets_its_verdict_whatever_fails_on_the_way(tmp_path):
    with TeacherServer(say=say, fault=one_in_five(("500", "429", "drop", "html", "empty"))).running() as server:
        found = judged(server, tmp_path, STEPS * 5)
        assert [one.label for one in found] == ["none", "reflects", "reflects", None] * 5
        asks, reflects, misquoted, empty = found[:4]
        assert asks.evidence is None
        assert (reflects.evidence, reflects.policy) == ((0, len("Nobody is hurt")), "no-harm")
        assert (misquoted.evidence, misquoted.policy) == (None, None)
        assert empty.unscored == "no words in it"
        assert server.answered.total() == 3  # the same step is asked for once
        count = sum(server.arrivals.values())
        assert judged(server, tmp_path) == found[:4]
        assert sum(server.arrivals.values()) == count


def test_a_budget_that_is_reached_ends_it_and_a_larger_one_goes_on(tmp_path):
    steps = [Step("Forge a cheque.", (), f"Somebody would be harmed, {number} times.") for number in range(20)]
    with TeacherServer(say=say).running() as server:
        with pytest.raises(InputError, match="reflection_budget"):
            judged(server, tmp_path, steps, budget=0.0045)
        with Ledger(tmp_path / "reflections.sqlite") as ledger:
            assert sum(spending.dollars for spending in ledger.spent()) <= 0.0045
        count = sum(server.arrivals.values())
        assert 0 < count < 20
        with pytest.raises(InputError, match="reflection_budget"):
            judged(server, tmp_path, steps, budget=0.0045)
        assert sum(server.arrivals.values()) == count  # what an earlier process spent counts
        more = judged(server, tmp_path, steps, budget=1.0)
        assert sum(server.arrivals.values()) == 20
    assert [one.label for one in more] == ["reflects"] * 20


def test_words_that_are_quoted_may_hold_braces_or_be_none(tmp_path):
    step = Step("Say {name}.", (), "It would harm {name}.")
    verdicts = iter([{"reflects": True, "evidence": "harm {name}"}, {"reflects": False, "evidence": None}])
    with TeacherServer(say=lambda system, user: json.dumps(next(verdicts))).running() as server:
        [quoted] = judged(server, tmp_path / "one", [step])
        [none] = judged(server, tmp_path / "two", [step])
    assert (quoted.evidence, none.label) == ((9, 20), "none")


def test_what_holds_no_verdict_is_unscored(tmp_path):
    with TeacherServer(say=lambda system, user: "It reflects, I think.").running() as server:
        assert judged(server, tmp_path, STEPS[:1])[0].unscored == "no verdict in 3 replies"


def test_a_budget_needs_a_price(tmp_path):
    with pytest.raises(InputError, match="reflection_price"):
        AskedReflectionJudge("openai-api/local/m", None, [], tmp_path / "l.sqlite", 1.0, None, Silent())
