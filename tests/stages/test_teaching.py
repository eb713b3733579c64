"""A live teacher, from prompts to RIT-D, against a real server on loopback."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import saro
import teacher_server
from saro import pipeline
from saro.config import SynthesizeConfig, load_config
from saro.engines import batch
from saro.engines.ledger import Ledger, Spending
from saro.engines.provider import Usage
from saro.errors import InputError
from saro.files import read_jsonl, write_jsonl
from saro.policies import load_policies
from saro.progress import Silent
from saro.records import Prompt, Reply
from saro.stages.synthesize import Demonstration, Rejected
from saro.stages.teaching import forecast, is_recorded, teach
from teacher_server import TeacherServer, one_in_five

pytest.importorskip("inspect_ai", reason="a live teacher needs inspect-ai: pip install 'saro[live]'")
POLICIES = load_policies()
KEY = "sk-this-key-is-secret"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("LOCAL_API_KEY", KEY)


def prompts(folder, number, start=0):
    """Half of them harmful; a quarter have a category, the others are classified by the teacher."""
    path = folder / "prompts.jsonl"
    rows = []
    for place in range(start, start + number):
        harmful = place % 2 == 1
        rows.append(
            Prompt(
                id=f"p{place}",
                text=f"{'harmful' if harmful else 'kind'} request {place}",
                label="harmful" if harmful else "benign",
                kind="harmful" if harmful else "ordinary",
                category="fraud" if place % 4 == 1 else "unknown",
            )
        )
    write_jsonl(path, rows)
    return path


def config(server, path, **more):
    values = {"teacher": "openai-api/local/m", "teacher_url": server.url, "timeout": 2, "connections": 32, **more}
    return SynthesizeConfig(prompts=str(path), **values)


def run(settings, out):
    return teach(settings, POLICIES, out, out / "requests.sqlite", Silent())


def rows_of(out):
    accepted = list(read_jsonl(out / "ritd.jsonl", Demonstration))
    file = out / "rejected.jsonl"
    return accepted, list(read_jsonl(file, Rejected)) if file.stat().st_size else []


def test_prompts_are_sorted_answered_and_graded(tmp_path):
    with TeacherServer().running() as server:
        judge = {"judge": "openai-api/local/judge", "judge_url": server.url}
        summary = run(config(server, prompts(tmp_path, 8), samples=2, select="all", **judge), tmp_path / "out")
        assert server.keys == {KEY}
    accepted, rejected = rows_of(tmp_path / "out")
    assert [row.prompt.id for row in accepted] == [f"p{place}" for place in range(8) for _ in range(2)]
    assert rejected == []
    assert {row.prompt.category for row in accepted} == {"fraud", "no-harm"}
    assert accepted[0].grades.total == 27
    assert accepted[0].chain.steps[1] == "The no-harm policy speaks of it."
    # 6 to classify, 16 replies, 8 grades (the two samples of a prompt are equal here), of 150 tokens each
    assert summary["spending"] == {
        "attempts": 30,
        "tokens": 30 * 150,
        "dollars": None,
        "attempts lost in flight": 0,
        "budget reached": False,
    }


def test_the_same_command_again_asks_nothing(tmp_path):
    with TeacherServer().running() as server:
        settings = config(server, prompts(tmp_path, 6))
        first = run(settings, tmp_path / "out")
        asked = server.arrivals.total()
        assert run(settings, tmp_path / "out") == first
        assert server.arrivals.total() == asked
        run(config(server, prompts(tmp_path, 8)), tmp_path / "out")  # two more prompts: only they are asked for
        assert server.arrivals.total() == asked + 4


def test_low_and_missing_grades_reject(tmp_path):
    def say(system, user):
        if not system.startswith("You grade"):
            return teacher_server.answer(system, user)
        if "request 1" in user:
            return '{"compliance": 9, "relevance": 2, "accuracy": 9}'
        return "Splendid." if "request 3" in user else teacher_server.PASSING

    with TeacherServer(say=say).running() as server:
        judge = {"judge": "openai-api/local/judge", "judge_url": server.url}
        summary = run(config(server, prompts(tmp_path, 6), **judge), tmp_path / "out")
    accepted, rejected = rows_of(tmp_path / "out")
    assert [row.prompt.id for row in accepted] == ["p0", "p2", "p4", "p5"]
    assert [(row.reply.prompt_id, row.reason) for row in rejected] == [
        ("p1", "judge: relevance too low"),
        ("p3", "judge: unscored (no verdict in 3 replies)"),
    ]
    assert rejected[0].grades.relevance == 2
    assert summary["rejected"] == {"judge: relevance too low": 1, "judge: unscored (no verdict in 3 replies)": 1}


def test_a_safe_completion_of_the_harmful_is_accepted_where_a_judge_says_so(tmp_path):
    verdicts = {"request 1": "safe completion", "request 3": "refusal", "request 5": "unsafe", "request 7": "perhaps"}

    def say(system, user):
        if system.startswith("You decide"):
            return json.dumps({"answer": next(said for part, said in verdicts.items() if part in user)})
        return teacher_server.answer(system, user).replace(teacher_server.REFUSAL, teacher_server.HELP)

    path = prompts(tmp_path, 8)
    with TeacherServer(say=say).running() as server:
        judge = {"judge": "openai-api/local/judge", "judge_url": server.url}
        run(config(server, path, **judge), tmp_path / "judged")
        run(config(server, path), tmp_path / "alone")
    accepted, rejected = rows_of(tmp_path / "judged")
    assert [row.prompt.id for row in accepted] == ["p0", "p1", "p2", "p3", "p4", "p6"]
    assert {row.reply.prompt_id: row.reason for row in rejected} == {
        "p5": "outcome: answers the harmful",
        "p7": "judge: unscored (no verdict in 3 replies)",
    }
    accepted, rejected = rows_of(tmp_path / "alone")
    assert {row.reason for row in rejected} == {"outcome: answers the harmful"}
    assert len(rejected) == 4


def test_a_provider_that_takes_the_reasoning_apart_is_put_together(tmp_path):
    class Apart(TeacherServer):
        async def write(self, writer, status, kind, payload, extra=""):
            reply = json.loads(payload)
            message = reply["choices"][0]["message"]
            if "<think>" in message["content"]:
                reasoning, _, message["content"] = message["content"].partition("</think>")
                message["reasoning_content"] = reasoning.removeprefix("<think>").strip()
            await super().write(writer, status, kind, json.dumps(reply).encode(), extra)

    with Apart().running() as server:
        run(config(server, prompts(tmp_path, 4)), tmp_path / "out")
    accepted, _ = rows_of(tmp_path / "out")
    assert len(accepted) == 4
    assert len(accepted[0].chain.steps) == 3


@pytest.mark.parametrize("status", ["401", "403", "404"])
def test_what_can_never_work_stops_at_once(tmp_path, status):
    with TeacherServer(fault=lambda body, times: status).running() as server:
        with pytest.raises(InputError, match=f"HTTP {status}") as error:
            run(config(server, prompts(tmp_path, 500), connections=4), tmp_path / "out")
        time.sleep(0.3)
        assert server.arrivals.total() <= 8  # those in flight when the first answer came
    assert KEY not in str(error.value)
    assert not (tmp_path / "out" / "ritd.jsonl").exists()


def test_an_unknown_provider_and_a_missing_key_are_said(tmp_path, monkeypatch):
    path = prompts(tmp_path, 2)
    with pytest.raises(InputError, match="nonsuch/model: cannot be reached"):
        run(SynthesizeConfig(prompts=str(path), teacher="nonsuch/model"), tmp_path / "a")
    monkeypatch.delenv("LOCAL_API_KEY")
    with pytest.raises(InputError, match="LOCAL_API_KEY"):
        run(
            SynthesizeConfig(prompts=str(path), teacher="openai-api/local/m", teacher_url="http://127.0.0.1:9/v1"),
            tmp_path / "b",
        )


@pytest.mark.slow
@pytest.mark.parametrize("number", [int(os.environ.get("SARO_WEATHER_PROMPTS", "500"))])
def test_weather_changes_nothing(tmp_path, number):
    """A fifth of all arrivals fail on the way: with attempts enough, the data set is the same to the byte."""
    path = prompts(tmp_path, number)
    with TeacherServer().running() as server:
        calm = run(config(server, path), tmp_path / "calm")
        asked = server.arrivals.total()
    with TeacherServer(fault=one_in_five(teacher_server.TRANSIENT)).running() as server:
        storm = run(config(server, path, attempts=12), tmp_path / "storm")
        assert set(server.faults) == set(teacher_server.TRANSIENT)
        assert server.faults.total() > asked / 6
    assert storm["accepted"] == calm["accepted"] == number

    def content(folder):
        # the server's address is in the teacher's name
        return [row.model_dump(exclude={"teacher"}) for row in rows_of(tmp_path / folder)[0]]

    assert content("calm") == content("storm")
    for file in (tmp_path / "storm").iterdir():
        assert KEY.encode() not in file.read_bytes()


def test_every_prompt_is_accounted_for_whatever_its_reply(tmp_path):
    def fault(body, times):
        found = one_in_five(teacher_server.LASTING)(body, 1)
        return found if not body["messages"][0]["content"].startswith("You sort") else None

    with TeacherServer(fault=fault).running() as server:
        summary = run(config(server, prompts(tmp_path, 200)), tmp_path / "out")
    accepted, rejected = rows_of(tmp_path / "out")
    assert len(accepted) + len(rejected) == 200
    assert {row.prompt.id for row in accepted} | {row.reply.prompt_id for row in rejected} == {
        f"p{place}" for place in range(200)
    }
    assert summary["rejected"].keys() >= {
        "form: unclosed",
        "request: content filter",
        "request: longer than max_tokens allows",
        "policy: cites none",
    }


def test_a_request_that_never_succeeds_is_a_failure_with_its_reason_and_is_tried_again_next_time(tmp_path):
    broken = [True]

    def fault(body, times):
        return "503" if broken[0] and "request 2" in body["messages"][1]["content"] else None

    with TeacherServer(fault=fault).running() as server:
        settings = config(server, prompts(tmp_path, 4), attempts=2)
        run(settings, tmp_path / "out")
        accepted, rejected = rows_of(tmp_path / "out")
        assert [row.prompt.id for row in accepted] == ["p0", "p1", "p3"]
        assert [row.reason for row in rejected] == ["classification: HTTP 503"]
        broken[0] = False
        run(settings, tmp_path / "out")
    assert len(rows_of(tmp_path / "out")[0]) == 4


def test_the_budget_is_never_exceeded_and_a_larger_one_goes_on(tmp_path):
    path = prompts(tmp_path, 60)
    with TeacherServer().running() as server:
        small = run(config(server, path, max_tokens=64, budget_tokens=12_000), tmp_path / "out")
        assert small["spending"]["budget reached"]
        assert 3_000 < small["spending"]["tokens"] <= 12_000
        assert server.arrivals.total() * 150 == small["spending"]["tokens"]
        accepted, rejected = rows_of(tmp_path / "out")
        assert 0 < len(accepted) < 60
        assert len(accepted) + len(rejected) == 60
        assert any("the budget was reached" in row.reason for row in rejected)
        whole = run(config(server, path, max_tokens=64, price=(1.0, 2.0), budget=1.0), tmp_path / "out")
        assert (whole["accepted"], whole["spending"]["budget reached"]) == (60, False)
        assert max(server.answered.values()) == 1  # nothing was paid twice
        assert whole["spending"]["dollars"] == round(server.arrivals.total() * (100 + 2 * 50) / 1e6, 4)


PROCESS = """
import sys
from pathlib import Path
from saro.config import SynthesizeConfig
from saro.policies import load_policies
from saro.progress import Silent
from saro.stages.teaching import teach

out = Path(sys.argv[3])
model = {"teacher": "openai-api/local/m", "teacher_url": sys.argv[2]}
settings = SynthesizeConfig(prompts=sys.argv[1], **model, connections=8, processes=int(sys.argv[4]))
teach(settings, load_policies(), out, out / "requests.sqlite", Silent())
"""


def process(path, server, out, processes=1, stderr=None):
    environment = {**os.environ, "PYTHONPATH": str(Path(saro.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, path, server.url, out, str(processes)], env=environment, stderr=stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize("kills", [int(os.environ.get("SARO_KILLS", "5"))])
def test_killed_at_any_moment_it_goes_on_and_pays_at_most_what_was_in_flight_again(tmp_path, kills):
    path = prompts(tmp_path, 150)
    dice = random.Random(4)
    with TeacherServer(latency=0.1).running() as server:
        out = tmp_path / "out"
        for _ in range(kills):
            one = process(path, server, out)
            before, deadline = server.arrivals.total(), time.monotonic() + 60
            while server.arrivals.total() == before and one.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(dice.uniform(0, 0.4))
            one.send_signal(signal.SIGKILL)
            one.wait()
        assert process(path, server, out).wait() == 0
        repeated = sum(times - 1 for times in server.arrivals.values())
        undisturbed = tmp_path / "undisturbed"
        assert process(path, server, undisturbed).wait() == 0
        summary = json.loads((out / "summary.json").read_text())
        assert repeated <= summary["spending"]["attempts lost in flight"] <= 8 * kills
        assert (out / "ritd.jsonl").read_bytes() == (undisturbed / "ritd.jsonl").read_bytes()


def test_the_samples_of_a_prompt_are_asked_for_at_once(tmp_path):
    with TeacherServer(latency=0.2).running() as server:
        run(config(server, prompts(tmp_path, 2), samples=6, select="all"), tmp_path / "out")
        assert server.most_in_flight >= 6


@pytest.fixture
def quick_batches(monkeypatch):
    from inspect_ai.model._providers.util import batch as theirs

    monkeypatch.setattr(theirs, "DEFAULT_BATCH_TICK", 0.05)
    monkeypatch.setattr(batch, "_GATHERING", 0.1)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return {"teacher": "openai/gpt-4o", "price": (1.0, 2.0), "batch": 1000}


def test_a_batch_api_is_used_where_it_is_asked_for(tmp_path, quick_batches):
    path = prompts(tmp_path, 40)
    with TeacherServer().running() as server:
        summary = run(config(server, path, **quick_batches, samples=2), tmp_path / "out")
        assert server.arrivals.total() == 0  # nothing went any other way
        asked = [line["custom_id"] for lines in server.batches for line in lines]
    assert len(set(asked)) == len(asked) == 30 + 80  # sorted, then answered
    assert len(server.batches) < 12
    assert summary["spending"]["attempts"] == 110
    assert summary["accepted"] == 40


def test_what_a_spoilt_batch_held_is_named_and_asked_again_by_the_next_command_only(tmp_path, quick_batches):
    """One line that is no completion makes Inspect lose its whole batch."""

    def spoils(line):
        error = {"status_code": 400, "body": {"error": {"message": "not this one"}}}
        bad = "kind request 2" in line["body"]["messages"][-1]["content"]
        return {"custom_id": line["custom_id"], "response": error} if bad else None

    path = tmp_path / "prompts.jsonl"
    write_jsonl(
        path,
        [
            Prompt(id=str(n), text=f"kind request {n}", label="benign", kind="ordinary", category="no-harm")
            for n in range(5)
        ],
    )
    with TeacherServer().running() as server:
        server.spoils = spoils
        with pytest.raises(InputError, match="none of its replies"):
            run(config(server, path, **quick_batches), tmp_path / "out")
        assert sum(map(len, server.batches)) == 5  # none of them twice
        rejected = list(read_jsonl(tmp_path / "out" / "rejected.jsonl", Rejected))
        assert {row.reason for row in rejected} == {"request: batch: unreadable response"}
        server.spoils = lambda line: None
        assert run(config(server, path, **quick_batches), tmp_path / "out")["accepted"] == 5


def test_a_batch_that_is_not_taken_costs_nothing_and_hangs_nothing(tmp_path, quick_batches):
    with TeacherServer().running() as server:
        server.takes_batches = False
        with pytest.raises(InputError, match="none of its replies"):
            run(config(server, prompts(tmp_path, 12), **quick_batches), tmp_path / "out")
    rejected = list(read_jsonl(tmp_path / "out" / "rejected.jsonl", Rejected))
    assert {row.reason.partition(": ")[2] for row in rejected} == {"batch: HTTP 400"}
    with Ledger(tmp_path / "out" / "requests.sqlite") as ledger:
        assert [spent.usage for spent in ledger.spent()] == [Usage()]


def test_a_model_without_a_batch_api_says_so(tmp_path):
    settings = SynthesizeConfig(prompts=str(prompts(tmp_path, 1)), teacher="openai-api/local/m", batch=10)
    with pytest.raises(InputError, match="has no batch API"):
        run(settings, tmp_path / "out")


def test_several_processes_ask_and_give_the_same(tmp_path):
    path = prompts(tmp_path, 40)
    with TeacherServer(fault=one_in_five(("429", "500", "drop"))).running() as server:
        run(config(server, path, processes=3), tmp_path / "three")
        assert max(server.answered.values()) == 1
        assert server.keys == {KEY}
    with TeacherServer().running() as server:
        settings = config(server, path)
        run(settings, tmp_path / "one")
    three, one = rows_of(tmp_path / "three"), rows_of(tmp_path / "one")
    assert [(row.prompt, row.chain) for row in three[0]] == [(row.prompt, row.chain) for row in one[0]]


def test_what_a_process_is_refused_stops_all(tmp_path):
    with TeacherServer(fault=lambda body, times: "401").running() as server:
        with pytest.raises(InputError, match="HTTP 401"):
            run(config(server, prompts(tmp_path, 400), processes=2), tmp_path / "out")
        assert server.arrivals.total() <= 64
    with pytest.raises(InputError, match=r"nobody/m.*cannot be reached"):
        run(SynthesizeConfig(teacher="nobody/m", processes=2), tmp_path / "none")


def children(parent):
    """Process ids of its children, as /proc has them."""
    found = set()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and (folder / "stat").read_text().rpartition(") ")[2].split()[1] == str(parent):
                found.add(int(folder.name))
    return found


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_an_asking_process_that_is_killed_stops_the_run_and_none_outlives_it(tmp_path):
    path, out = prompts(tmp_path, 400), tmp_path / "out"
    with TeacherServer(latency=0.05).running() as server:
        asking = process(path, server, out, processes=2, stderr=subprocess.PIPE)
        wait_for(lambda: server.arrivals.total() >= 20)
        workers = children(asking.pid)
        os.kill(workers.pop(), signal.SIGKILL)
        assert b"a process that asks it has ended" in asking.communicate(timeout=30)[1]
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
        with Ledger(out / "requests.sqlite") as ledger:  # in flight when it ended: they may be answered, and paid for
            assert 1 <= ledger.lost <= 8
        asking, start = process(path, server, out, processes=2), server.arrivals.total()
        wait_for(lambda: server.arrivals.total() >= start + 20)
        workers = children(asking.pid)
        assert len(workers) == 2
        asking.kill()
        asking.wait()
        wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
        summary = run(config(server, path, timeout=300, connections=8, processes=2), out)
        assert server.answered.total() <= 300 + 400 + summary["spending"]["attempts lost in flight"] <= 700 + 2 * 8


def test_no_module_of_the_users_folder_takes_another_s_place(tmp_path, monkeypatch):
    (tmp_path / "pydantic.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    with TeacherServer().running() as server:
        assert run(config(server, prompts(tmp_path, 4), processes=2), tmp_path / "out")["accepted"] == 4


def test_a_second_process_says_so_and_stops(tmp_path):
    path = prompts(tmp_path, 40)
    with TeacherServer(latency=1.0).running() as server:
        first = process(path, server, tmp_path / "out")
        while not server.arrivals:
            time.sleep(0.05)
        with pytest.raises(InputError, match="another process is at work"):
            run(config(server, path), tmp_path / "out")
        first.kill()
        first.wait()


def test_the_key_is_in_no_file(tmp_path):
    with TeacherServer(fault=one_in_five(("500", "429"))).running() as server:
        run(config(server, prompts(tmp_path, 20)), tmp_path / "out")
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert sqlite3.connect(tmp_path / "out" / "requests.sqlite").execute("SELECT count(*) FROM results").fetchone()[0]
    assert all(KEY.encode() not in file.read_bytes() for file in files)


def test_a_forecast_counts_and_asks_nothing(tmp_path):
    path = prompts(tmp_path, 8)
    settings = SynthesizeConfig(
        prompts=str(path),
        teacher="openai/x",
        judge="openai/y",
        samples=3,
        max_tokens=100,
        price=(1, 2),
        judge_price=(1, 2),
    )
    found = forecast(settings, POLICIES)
    assert found["prompts"] == 8
    assert found["requests"] == 6 + 8 * 3 + 8 * 3 + 4 * 3
    assert found["output tokens"] == 6 * 1024 + 24 * 100 + (24 + 12) * 2048
    assert found["dollars"] == round((found["input tokens"] + 2 * found["output tokens"]) / 1e6, 2)


def test_a_forecast_without_every_price_names_no_dollars(tmp_path):
    path = str(prompts(tmp_path, 4))
    known = forecast(SynthesizeConfig(prompts=path, teacher="openai/gpt-4o"), POLICIES)
    assert known["dollars"] > 0
    assert (
        forecast(SynthesizeConfig(prompts=path, teacher="openai/gpt-4o", judge="openai/none"), POLICIES)["dollars"]
        is None
    )


def test_a_budget_in_dollars_needs_a_price(tmp_path):
    unknown = {"teacher": "openai/nobody-knows", "budget": 5.0}
    with pytest.raises(InputError, match=r"synthesize\.price"):
        forecast(SynthesizeConfig(prompts=str(prompts(tmp_path, 1)), **unknown), POLICIES)
    with pytest.raises(InputError, match=r"synthesize\.judge_price"):
        run(SynthesizeConfig(**{**unknown, "teacher": "openai/gpt-4o", "judge": "openai/nobody"}), tmp_path / "out")
    assert not (tmp_path / "out" / "requests.sqlite").exists()


def test_what_was_paid_at_one_address_counts_at_another(tmp_path):
    path = prompts(tmp_path, 4)
    priced = {"price": (1.0, 2.0), "budget": 1.0}
    with TeacherServer().running() as server:
        first = run(config(server, path, **priced), tmp_path / "out")
        once = first["spending"]["dollars"]
        assert once == round(server.arrivals.total() * (100 + 2 * 50) / 1e6, 4) > 0
    with TeacherServer().running() as other:
        second = run(config(other, path, **{**priced, "price": (10.0, 20.0)}), tmp_path / "out")
        assert second["spending"]["dollars"] == pytest.approx(once * 11)


@pytest.mark.parametrize("url", ["http://user:hidden@127.0.0.1:1/v1", "http://127.0.0.1:1/v1?key=hidden"])
def test_a_secret_in_an_address_is_refused_and_not_repeated(url):
    with pytest.raises(InputError, match="teacher_url") as error:
        load_config(None, [f"synthesize.teacher_url={url}"])
    assert "hidden" not in str(error.value)


def test_a_wrong_key_leaves_nothing_spent(tmp_path):
    with TeacherServer(latency=0.2, fault=lambda body, times: "401").running() as server:
        path = prompts(tmp_path, 100)
        with pytest.raises(InputError):
            run(config(server, path), tmp_path / "out")
    with Ledger(tmp_path / "out" / "requests.sqlite") as ledger:
        assert ledger.lost == 0
        assert ledger.spent() == [Spending(f"openai-api/local/m at {server.url}", Usage(), None)]


def test_a_server_that_is_not_there_costs_nothing(tmp_path):
    settings = SynthesizeConfig(
        prompts=str(prompts(tmp_path, 2)), teacher="openai-api/local/m", teacher_url="http://127.0.0.1:9/v1", attempts=2
    )
    with pytest.raises(InputError, match="none of its replies was accepted"):
        run(settings, tmp_path / "out")
    with Ledger(tmp_path / "out" / "requests.sqlite") as ledger:
        assert [spending.usage for spending in ledger.spent()] == [Usage()]


def test_a_recording_is_graded_where_there_is_a_judge(tmp_path):
    chain = "<think>\nThe {} policy speaks.\n\nSo I decide.\n</think>\n\nMix flour and water."
    rows = [
        Prompt(id=name, text=name, label="benign", kind="ordinary", category=category)
        for name, category in (("bread", "no-harm"), ("cake", "unknown"), ("pie", "unknown"))
    ]
    write_jsonl(tmp_path / "prompts.jsonl", rows)
    texts = [chain.format("no-harm"), chain.format("no-harm"), chain.format("no such")]
    replies = [Reply(prompt_id=row.id, text=text, engine="recorded:x") for row, text in zip(rows, texts, strict=True)]
    write_jsonl(tmp_path / "replies.jsonl", replies)
    with TeacherServer().running() as server:
        settings = SynthesizeConfig(
            prompts=str(tmp_path / "prompts.jsonl"),
            teacher=str(tmp_path / "replies.jsonl"),
            citation=False,
            judge="openai-api/local/judge",
            judge_url=server.url,
        )
        run(settings, tmp_path / "out")
        assert server.arrivals.total() == 2
    accepted, rejected = rows_of(tmp_path / "out")
    assert [(row.prompt.id, row.grades.total) for row in accepted] == [("bread", 27), ("cake", 27)]
    assert [row.reason for row in rejected] == ["judge: unscored (no one policy to go by)"]


def test_equal_requests_in_flight_are_paid_once(tmp_path):
    row = {"text": "kind request", "label": "benign", "category": "no-harm"}
    write_jsonl(tmp_path / "prompts.jsonl", [{**row, "id": str(place)} for place in range(6)])
    with TeacherServer(latency=0.2).running() as server:
        run(config(server, tmp_path / "prompts.jsonl"), tmp_path / "out")
        assert server.arrivals.total() == 1
    assert len(rows_of(tmp_path / "out")[0]) == 6


def test_a_filtered_reply_is_not_paid_for_again(tmp_path):
    with TeacherServer(fault=lambda body, times: "filter").running() as server:
        settings = config(server, prompts(tmp_path, 2, start=1).parent / "prompts.jsonl", limit=1)
        for _ in range(2):
            with pytest.raises(InputError, match="none of its replies"):
                run(settings, tmp_path / "out")
        assert server.arrivals.total() == 1


def test_a_cut_off_data_set_is_not_trained_on(tmp_path, tiny_recipe):
    with TeacherServer().running() as server:
        sets = [
            f"synthesize.prompts={prompts(tmp_path, 40)}",
            "synthesize.teacher=openai-api/local/m",
            f"synthesize.teacher_url={server.url}",
            "synthesize.budget_tokens=12000",
        ]
        with pytest.raises(InputError, match=r"synthesize\.budget: was reached"):
            pipeline.run(load_config(tiny_recipe, sets), tmp_path / "run", "saro run", Silent())
    assert not (tmp_path / "run" / "warmup").exists()


@pytest.mark.parametrize(
    ("name", "recorded"),
    [
        ("starter:teacher", True),
        ("replies.jsonl", True),
        ("/no/such/replies.jsonl", True),
        ("openai/gpt-4o", False),
        ("openai-api/vllm/meta/llama", False),
    ],
)
def test_a_recording_is_told_from_a_model(name, recorded):
    assert is_recorded(name) is recorded
