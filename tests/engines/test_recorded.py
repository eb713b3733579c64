import pytest

from saro.engines.recorded import RecordedTeacher
from saro.errors import InputError
from saro.files import write_jsonl
from saro.records import Prompt, Reply


def prompt(name):
    return Prompt(id=name, text=name, label="benign", kind="ordinary")


def reply(name, sample=0, text="<think>\n a\n\n"):
    return Reply(prompt_id=name, sample=sample, text=text, engine="recorded:test")


def test_replies_come_back_word_for_word_in_the_prompts_order(tmp_path):
    recorded = [reply("a"), reply("b", text="b \r\n “x”\u2028"), reply("a", sample=1, text="other"), reply("c")]
    write_jsonl(tmp_path / "teacher.jsonl", recorded)
    teacher = RecordedTeacher(tmp_path / "teacher.jsonl")
    assert list(teacher.replies([prompt("b"), prompt("a")])) == [recorded[1], recorded[0], recorded[2]]
    assert list(teacher.replies([prompt("b")])) == [recorded[1]]
    assert list(teacher.replies([])) == []


def test_a_prompt_without_a_reply_is_an_error(tmp_path):
    write_jsonl(tmp_path / "teacher.jsonl", [reply("a")])
    teacher = RecordedTeacher(tmp_path / "teacher.jsonl")
    with pytest.raises(InputError, match="no recorded reply to prompt 'b'"):
        list(teacher.replies([prompt("a"), prompt("b")]))


def test_identity_follows_the_content_not_the_name(tmp_path):
    for name, rows in (("one", [reply("a")]), ("same", [reply("a")]), ("other", [reply("a", text="other")])):
        write_jsonl(tmp_path / name, rows)
    one, same, other = (RecordedTeacher(tmp_path / name).identity for name in ("one", "same", "other"))
    assert one == same != other


def test_a_malformed_recording_is_an_error_that_names_the_line(tmp_path):
    (tmp_path / "teacher.jsonl").write_text(reply("a").model_dump_json() + '\n{"prompt_id": "b", "text": "x"}\n')
    with pytest.raises(InputError, match=r"teacher\.jsonl:2: engine: Field required"):
        RecordedTeacher(tmp_path / "teacher.jsonl")
