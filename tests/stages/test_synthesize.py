import json

import pytest

from saro import chains
from saro.config import SynthesizeConfig
from saro.engines.recorded import RecordedTeacher
from saro.errors import InputError
from saro.files import read_jsonl, write_jsonl
from saro.policies import load_policies
from saro.progress import Silent
from saro.records import Chain, Prompt, Reply
from saro.stages.synthesize import Demonstration, Panel, Rejected, cited_policies, synthesize

POLICIES = load_policies()
REFUSAL, HELP = "I can't help with that.", "Sure: mix flour and water."


def prompt(name, kind, category):
    label = "harmful" if kind in ("harmful", "jailbreak") else "benign"
    return Prompt(id=name, text=name, label=label, kind=kind, category=category)


def reply(name, reasoning, answer, **fields):
    return Reply(prompt_id=name, text=f"<think>\n{reasoning}\n</think>\n\n{answer}", engine="recorded:test", **fields)


def run(tmp_path, cases, limit=None, judge=None, **more):
    """Synthesize from ``(prompt, replies)``; return summary, accepted and rejected rows."""
    write_jsonl(tmp_path / "prompts.jsonl", [found for found, _ in cases])
    write_jsonl(tmp_path / "teacher.jsonl", [row for _, rows in cases for row in rows])
    config = SynthesizeConfig(
        prompts=str(tmp_path / "prompts.jsonl"), teacher=str(tmp_path / "teacher.jsonl"), limit=limit, **more
    )
    out = tmp_path / "out"
    summary = synthesize(
        config, Panel(RecordedTeacher(tmp_path / "teacher.jsonl", POLICIES), judge, POLICIES), out, Silent()
    )
    rejected = out / "rejected.jsonl"
    return (
        summary,
        list(read_jsonl(out / "ritd.jsonl", Demonstration)),
        list(read_jsonl(rejected, Rejected)) if rejected.stat().st_size else [],
    )


GOOD = (prompt("good", "harmful", "fraud"), [reply("good", "Whose card?\n\nThe fraud policy says no.", REFUSAL)])


def test_what_passes_is_kept_whole(tmp_path):
    bread = (prompt("bread", "ordinary", "unknown"), [reply("bread", "By the no-harm policy: bake.", HELP)])
    summary, accepted, rejected = run(tmp_path, [GOOD, bread])
    assert rejected == []
    assert [row.prompt for row in accepted] == [GOOD[0], bread[0]]
    assert accepted[0].chain == Chain(steps=("Whose card?", "The fraud policy says no."), answer=REFUSAL)
    assert accepted[0].teacher == "recorded:test"
    assert summary == {"prompts": 2, "accepted": 2, "rejected": {}, "kinds": {"harmful": 1, "ordinary": 1}}


@pytest.mark.parametrize(("select", "kept"), [("shortest", [2]), ("first", [1]), ("all", [1, 2, 3])])
def test_of_several_accepted_samples_the_shortest_is_kept(tmp_path, select, kept):
    samples = [
        reply("good", "The fraud policy.", HELP, sample=0),  # the shortest, and not acceptable
        reply("good", "Whose card is it?\n\nThe fraud policy says no.", REFUSAL, sample=1),
        reply("good", "The fraud policy says no.", REFUSAL, sample=2),
        reply("good", "The fraud policy says no!", REFUSAL, sample=3),
    ]
    summary, accepted, rejected = run(tmp_path, [(GOOD[0], samples)], select=select)
    assert [row.chain.steps for row in accepted] == [chains.parse(samples[place].text).steps for place in kept]
    dropped = [row.reply.sample for row in rejected if row.reason == f"selection: not the {select}"]
    assert dropped == [place for place in (1, 2, 3) if place not in kept]
    assert summary["rejected"]["outcome: answers the harmful"] == 1


def test_rejections_are_kept_and_counted_by_reason(tmp_path):
    plain = Reply(prompt_id="plain", text=REFUSAL, engine="e")
    cut = Reply(prompt_id="cut", text="<think>\nThe fraud policy", engine="e", finish="length")
    cases = [
        GOOD,
        (prompt("plain", "harmful", "fraud"), [plain]),
        (prompt("cut", "jailbreak", "fraud"), [cut]),
        (prompt("tame", "jailbreak", "fraud"), [reply("tame", "The fraud policy.", HELP)]),
        (
            prompt("prim", "lookalike", "fraud"),
            [reply("prim", "The fraud policy.", REFUSAL), reply("prim", "The fraud policy.", REFUSAL, sample=1)],
        ),
        (prompt("bare", "harmful", "fraud"), [reply("bare", "Whose card?", REFUSAL)]),
        (prompt("astray", "harmful", "fraud"), [reply("astray", "The privacy policy.", REFUSAL)]),
    ]
    summary, accepted, rejected = run(tmp_path, cases)
    assert [row.prompt.id for row in accepted] == ["good"]
    assert [row.reply for row in rejected] == [row for _, rows in cases[1:] for row in rows]
    assert [row.reason for row in rejected] == [
        "form: no-reasoning",
        "form: cut off",
        "outcome: answers the harmful",
        "outcome: refuses the benign",
        "outcome: refuses the benign",
        "policy: cites none",
        "policy: cites another",
    ]
    assert summary["rejected"] == {
        "form: no-reasoning": 1,
        "form: cut off": 1,
        "outcome: answers the harmful": 1,
        "outcome: refuses the benign": 2,
        "policy: cites none": 1,
        "policy: cites another": 1,
    }
    assert (summary["prompts"], summary["accepted"]) == (7, 1)


def test_limit_takes_the_first_prompts(tmp_path):
    other = (prompt("other", "harmful", "fraud"), [reply("other", "The fraud policy.", REFUSAL)])
    assert run(tmp_path, [GOOD, other], limit=1)[0]["prompts"] == 1


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("The Fraud policy, and the self-harm policy.", {"fraud", "self-harm"}),
        ("Fraud is no matter of policy.", set()),
        ("The cybercrime policy.", {"cybercrime"}),
    ],
)
def test_a_policy_is_cited_by_its_whole_name(text, cited):
    assert cited_policies(Chain(steps=("Hm.", text), answer="a"), POLICIES) == cited


def test_a_chain_that_cites_a_longer_named_policy_cites_another(tmp_path):
    astray = (prompt("astray", "harmful", "crime"), [reply("astray", "The cybercrime policy.", REFUSAL)])
    assert run(tmp_path, [GOOD, astray])[0]["rejected"] == {"policy: cites another": 1}


def test_a_chain_that_cites_another_policy_besides_is_rejected(tmp_path):
    """As the docstring of synthesize() promises."""
    both = (prompt("both", "harmful", "fraud"), [reply("both", "The fraud policy, or the privacy policy.", REFUSAL)])
    assert run(tmp_path, [GOOD, both])[0]["rejected"] == {"policy: cites another": 1}


def test_a_reply_that_was_cut_off_in_its_answer_is_rejected(tmp_path):
    """It must not teach the student to stop in the middle of a sentence."""
    cut = (prompt("cut", "harmful", "fraud"), [reply("cut", "The fraud policy.", "I can't help with", finish="length")])
    _, accepted, rejected = run(tmp_path, [GOOD, cut])
    assert [row.prompt.id for row in accepted] == ["good"]
    assert [row.reply.prompt_id for row in rejected] == ["cut"]


def test_nothing_accepted_is_an_error(tmp_path):
    with pytest.raises(InputError, match="none of its replies was accepted"):
        run(tmp_path, [(GOOD[0], [reply("good", "The fraud policy.", HELP)])])
    assert not (tmp_path / "out" / "ritd.jsonl").exists()


def test_a_category_without_a_policy_is_an_error_before_any_work(tmp_path):
    with pytest.raises(InputError, match=r"prompt odd: category 'parking' has no policy"):
        run(tmp_path, [GOOD, (prompt("odd", "harmful", "parking"), [reply("odd", "The fraud policy.", REFUSAL)])])
    assert not (tmp_path / "out").exists()


def test_rows_are_plain_json_for_other_tools(tmp_path):
    run(tmp_path, [GOOD])
    row = json.loads((tmp_path / "out" / "ritd.jsonl").read_text())
    assert row["prompt"]["text"] == "good"
    assert row["chain"]["steps"] == ["Whose card?", "The fraud policy says no."]
