"""A tree in the terminal."""

import io

import pytest
from rich.console import Console

from saro.errors import InputError
from saro.files import write_jsonl
from saro.records import Prompt, Verdict
from saro.reporting.tree import print_tree, show_tree
from saro.trees import TreeBuilder

PROMPT = Prompt(id="p", text="How do I\x1b[2J bake?", label="benign", kind="ordinary")
WORDS = {1: "think", 2: "weigh [bold]it[/bold]", 3: "help\x07", 4: "refuse", 5: "halt"}


@pytest.fixture
def tree():
    builder = TreeBuilder(PROMPT, (9,), model="m", seed=1)
    good, bad = Verdict(judge="j", label="compliance"), Verdict(judge="j", label="refusal")
    builder.add([(1,), (2,), (3,)], "stop", good, True)
    builder.add([(1,), (2,), (4,)], "stop", bad, False)
    builder.add([(1,), (5,)], "length", Verdict(judge="j", unscored="no answer"), None)
    return builder.tree()


def printed(tree, pairs):
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    print_tree(tree, pairs, lambda ids: " ".join(WORDS[token] for token in ids), console)
    return console.file.getvalue()


def test_values_ends_and_pairs_are_shown(tree, make_pair):
    pair = make_pair("a", [9], [3], [4], "p")
    nodes = {"parent": 1, "chosen_nodes": (2,), "rejected_nodes": (3,), "chosen_value": 1.0, "rejected_value": 0.0}
    pair = pair.model_copy(update={"provenance": pair.provenance.model_copy(update=nodes)})
    text = printed(tree, [make_pair("b", [9], [3], [4], "another"), pair])
    assert "ordinary, benign  How do I [2J bake?" in text
    lines = [line.lstrip(" │├└─") for line in text.splitlines()]
    assert "0 0.50 think" in lines
    assert "1 0.50 weigh [bold]it[/bold]" in lines
    assert "2 1.00 [+1] help   ▲ turns for the better  ■ compliance" in lines
    assert "3 0.00 [−1] refuse  ▼ turns for the worse  ■ refusal" in lines
    assert "4   ?  halt  ■ cut off" in lines
    assert "pair 1: outcome (harmful), values 1.00 over 0.00, tokens 1 against 1" in lines
    assert "pair 2" not in text
    assert "\x1b" not in text
    assert "no pair was drawn from it" in printed(tree, [])


def test_a_long_chain_is_shown_to_its_end(tree):
    builder = TreeBuilder(PROMPT, (9,), model="m", seed=1)
    stem = [(1,)] * 24
    builder.add([*stem, (3,)], "stop", Verdict(judge="j", label="compliance"), True)
    builder.add([*stem, (4,)], "stop", Verdict(judge="j", label="refusal"), False)
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    print_tree(builder.tree(), [], lambda ids: " ".join(WORDS[token] for token in ids), console)
    text = console.file.getvalue()
    assert "23 0.50 think" in text
    assert "■ compliance" in text
    assert "■ refusal" in text


def test_a_prompt_that_was_not_rolled_out_is_said_with_the_nearest(tree, tmp_path):
    write_jsonl(tmp_path / "trees.jsonl", [tree])
    with pytest.raises(InputError, match="no tree of prompt 'q'") as error:
        show_tree(tmp_path / "trees.jsonl", tmp_path / "pairs.jsonl", "none", "q")
    assert "such as p" in error.value.mend


def test_pairs_may_not_be_there_yet(tree, tmp_path, tiny_student, capsys):
    write_jsonl(tmp_path / "trees.jsonl", [tree])
    show_tree(tmp_path / "trees.jsonl", tmp_path / "pairs.jsonl", str(tiny_student), "p")
    assert "no pair was drawn" in capsys.readouterr().out
