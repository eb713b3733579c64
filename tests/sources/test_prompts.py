import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saro.errors import InputError
from saro.sources.prompts import STARTER, load_prompts, locate


def write(tmp_path, *rows):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_users_own_rows(tmp_path):
    name = write(
        tmp_path,
        {"prompt": "How do I clone a card?", "label": "harmful"},
        {
            "text": "How do I clone a repository?",
            "label": "benign",
            "id": "git",
            "kind": "lookalike",
            "category": "fraud",
        },
        {"text": "How do I bake?", "label": "benign"},
    )
    first, second, third = load_prompts(name)
    assert (first.text, first.kind, first.category) == ("How do I clone a card?", "harmful", "unknown")
    assert (second.id, second.kind, second.category) == ("git", "lookalike", "fraud")
    assert third.kind == "ordinary"
    assert first.id != third.id
    assert load_prompts(name)[0].id == first.id


def test_limit_takes_the_first(tmp_path):
    name = write(tmp_path, *({"text": str(number), "label": "benign"} for number in range(5)))
    assert [prompt.text for prompt in load_prompts(name, 2)] == ["0", "1"]
    assert len(load_prompts(name, 9)) == 5


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6, unique=True))
def test_any_text_comes_through_word_for_word(tmp_path_factory, texts):
    name = write(tmp_path_factory.getbasetemp(), *({"text": text, "label": "benign"} for text in texts))
    prompts = load_prompts(name)
    assert [prompt.text for prompt in prompts] == texts
    assert len({prompt.id for prompt in prompts}) == len(texts)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"text": "a"}, "label: expected 'harmful' or 'benign', found None"),
        ({"text": "a", "label": "bad"}, "found 'bad'"),
        ({"text": "a", "label": ["harmful"]}, "label"),
        ({"text": "a", "label": {}}, "label"),
        ({"text": "a", "label": "benign", "kind": "poem"}, "kind: expected one of"),
        ({"text": "a", "label": "benign", "kind": []}, "kind"),
        ({"text": "a", "label": "benign", "kind": "jailbreak"}, "means label 'harmful'"),
        ({"text": "", "label": "benign"}, "text: "),
        ({"text": 3, "label": "benign", "id": "x"}, "text: "),
        ({"label": "benign"}, "text: "),
        ({"text": "a", "label": "benign", "id": 4}, "id: "),
        ({"text": "a", "label": "benign", "colour": "red"}, "colour: "),
        ({"text": "a", "prompt": "b", "label": "benign"}, "prompt: "),
        ({"text": "half a pair: \ud83d", "label": "benign"}, "text"),
        ({"text": "half a pair: \ud83d", "label": "benign", "id": "x"}, "text"),
    ],
)
def test_a_wrong_row_is_an_error_that_names_line_and_key(tmp_path, row, problem):
    name = write(tmp_path, {"text": "fine", "label": "benign"}, row)
    with pytest.raises(InputError) as caught:
        load_prompts(name)
    assert caught.value.where == f"{name}:2"
    assert problem in caught.value.problem


def test_an_id_given_twice_names_both_lines(tmp_path):
    name = write(
        tmp_path, {"text": "a", "label": "benign"}, {"text": "b", "label": "benign"}, {"text": "a", "label": "benign"}
    )
    with pytest.raises(InputError) as caught:
        load_prompts(name)
    assert caught.value.where == f"{name}:3"
    assert "line 1" in caught.value.problem


def test_no_file_and_no_rows_are_errors(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_prompts(str(tmp_path / "none.jsonl"))
    with pytest.raises(InputError, match="holds no rows"):
        load_prompts(write(tmp_path))


def test_the_starter_pack_by_name(tmp_path):
    assert locate("starter:heldout") == STARTER / "heldout.jsonl"
    assert {prompt.split for prompt in load_prompts("starter:rollout")} == {"rollout"}
    assert locate("a:b.jsonl").name == "a:b.jsonl"
    with pytest.raises(InputError, match=r"choose one of .*starter:train"):
        locate("starter:holdout")
