import json

import pytest

from saro.errors import InputError
from saro.files import read_jsonl
from saro.records import Prompt, Reply
from saro.sources.existing import convert

ROW = {"id": "68", "question": "How?", "response": "<think>\nHm.\n</think>\n\nNo.", "category": "['Self-Harm']"}


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_rows_become_prompts_and_replies(tmp_path, name):
    rows = [ROW, {"instruction": "Why?", "output": "So.", "label": "benign"}, {**ROW, "response": "other"}]
    text = json.dumps(rows) if name == "x.json" else "\n".join(map(json.dumps, rows))
    (tmp_path / name).write_text(text)
    found, replied = convert(tmp_path / name, tmp_path / "out")
    prompts, replies = list(read_jsonl(found, Prompt)), list(read_jsonl(replied, Reply))
    assert [(row.text, row.label, row.kind, row.category) for row in prompts] == [
        ("How?", "harmful", "harmful", "unknown"),
        ("Why?", "benign", "ordinary", "unknown"),
    ]
    assert [(row.prompt_id, row.sample, row.text) for row in replies] == [
        (prompts[0].id, 0, ROW["response"]),
        (prompts[1].id, 0, "So."),
        (prompts[0].id, 1, "other"),
    ]
    assert replies[0].engine == f"recorded:{name}"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[1]", "row 1"),
        ("{}", "not an array"),
        ("[", "not valid JSON"),
        ("[]", "no rows"),
        (json.dumps([ROW, {**ROW, "response": None}]), "row 2.*response"),
        (json.dumps([{"response": "x"}]), "row 1.*question"),
        (json.dumps([{**ROW, "label": "bad"}]), "row 1: label"),
        (json.dumps([ROW, {**ROW, "label": "benign"}]), "row 2: label: benign, but an earlier row"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, part):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=part):
        convert(tmp_path / "x.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        convert(tmp_path / "x.json", tmp_path / "out")
