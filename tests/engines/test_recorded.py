import asyncio

import pytest

from saro.engines.recorded import RecordedTeacher
from saro.errors import InputError
from saro.files import write_jsonl
from saro.policies import load_policies
from saro.records import Prompt, Reply


def prompt(name):
    return Prompt(id=name, text=name, label="benign", kind="ordinary")


def reply(name, sample=0, text="<think>\n a\n\n"):
    return Reply(prompt_id=name, sample=sample, text=text, engine="recorded:test")


def replies(teacher, name):
    return asyncio.run(teacher.replies(prompt(name), None))


def test_replies_come_back_word_for_word(tmp_path):
    recorded = [reply("a"), reply("b", text="b \r\n “x”\u2028"), reply("a", sample=1, text="other"), reply("c")]
    write_jsonl(tmp_path / "teacher.jsonl", recorded)
    teacher = RecordedTeacher(tmp_path / "teacher.jsonl", {})
    assert replies(teacher, "b") == [recorded[1]]
    assert replies(teacher, "a") == [recorded[0], recorded[2]]


def test_a_prompt_without_a_reply_is_an_error(tmp_path):
    write_jsonl(tmp_path / "teacher.jsonl", [reply("a")])
    teacher = RecordedTeacher(tmp_path / "teacher.jsonl", {})
    with pytest.raises(InputError, match="no recorded reply to prompt 'b'"):
        replies(teacher, "b")


def test_the_policy_is_that_of_the_category_or_any(tmp_path):
    write_jsonl(tmp_path / "teacher.jsonl", [reply("a")])
    policies = load_policies()
    teacher = RecordedTeacher(tmp_path / "teacher.jsonl", policies)
    assert asyncio.run(teacher.policy(prompt("a"))) is None
    assert asyncio.run(teacher.policy(prompt("a").model_copy(update={"category": "fraud"}))) == policies["fraud"]


def test_a_malformed_recording_is_an_error_that_names_the_line(tmp_path):
    (tmp_path / "teacher.jsonl").write_text(reply("a").model_dump_json() + '\n{"prompt_id": "b", "text": "x"}\n')
    with pytest.raises(InputError, match=r"teacher\.jsonl:2: engine: Field required"):
        RecordedTeacher(tmp_path / "teacher.jsonl", {})
