"""One prompt's tree in the terminal: its steps and their values, how its chains ended, and the pairs drawn from it."""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.text import Text
from rich.tree import Tree as Branches

from saro.errors import InputError
from saro.files import read_jsonl
from saro.judges.reflection import REFLECTS
from saro.records import Node, Pair, Tree
from saro.terminal import one_line
from saro.trees import children_of, course_change, value

_TURN = 0.5  # change of the value from which a step changes the course


def show_tree(trees: Path, pairs: Path, model: str, prompt_id: str) -> None:
    """Print the tree of prompt ``prompt_id``, with the pairs where they are built already.

    Args:
        trees: the JSONL of a rollout.
        pairs: the JSONL of pairs, which may not be there yet.
        model: whose tokenizer turns token ids into text.
        prompt_id: which prompt.

    Raises:
        InputError: the prompt was not rolled out, or a file is absent or malformed.
    """
    from saro.rendering import load_renderer

    ids: list[str] = []
    for tree in read_jsonl(trees, Tree):
        if tree.prompt.id == prompt_id:
            drawn = list(read_jsonl(pairs, Pair)) if pairs.is_file() else []
            print_tree(tree, drawn, load_renderer(model).decode)
            return
        ids.append(tree.prompt.id)
    near = difflib.get_close_matches(prompt_id, ids, n=3, cutoff=0.0)
    raise InputError(
        trees, f"holds no tree of prompt {prompt_id!r}", f"name one of its prompts, such as {', '.join(near)}"
    )


def print_tree(
    tree: Tree, pairs: Sequence[Pair], decode: Callable[[Sequence[int]], str], console: Console | None = None
) -> None:
    """Print ``tree`` with the pairs that were drawn from it.

    Args:
        tree: of one prompt.
        pairs: of the run; those of other prompts are left out.
        decode: token ids → text.
        console: where to; standard output by default.
    """
    console = console or Console()
    drawn = [pair for pair in pairs if pair.prompt_id == tree.prompt.id]
    marks: dict[int, list[str]] = {}
    for number, pair in enumerate(drawn, start=1):
        for sign, nodes in (("+", pair.provenance.chosen_nodes), ("−", pair.provenance.rejected_nodes)):
            for number_of_node in nodes:
                marks.setdefault(number_of_node, []).append(f"{sign}{number}")
    root = Branches(Text.assemble((f"{tree.prompt.kind}, {tree.prompt.label}  ", "bold"), one_line(tree.prompt.text)))
    branches: dict[int | None, Branches] = {None: root}
    children = children_of(tree.nodes)
    for node in tree.nodes:  # depth first: a parent stands before its children
        label = _label(tree, node, decode, marks.get(node.id, []))
        before = branches[node.parent]
        if node.parent is not None and len(children[node.parent]) == 1:  # it goes on: the same branch, not a deeper one
            before.label = Text("\n").join([cast(Text, before.label), label])
            branches[node.id] = before
        else:
            branches[node.id] = before.add(label)
    console.print(root, highlight=False)
    console.print(_legend(drawn), highlight=False)


def _label(tree: Tree, node: Node, decode: Callable[[Sequence[int]], str], marks: Sequence[str]) -> Text:
    worth = value(tree, node.id)
    style = "dim" if worth is None else "green" if worth > 0.5 else "red" if worth < 0.5 else "yellow"
    label = Text.assemble((f"{node.id} ", "dim"), ("  ?  " if worth is None else f"{worth:.2f} ", style))
    if marks:
        label.append(f"[{' '.join(marks)}] ", "bold cyan")
    if node.inserted:
        label.append("put in: ", "bold magenta")
    label.append(one_line(decode(node.token_ids)))
    if node.reflection is not None and node.reflection.label == REFLECTS:
        label.append(f"  ◆ {node.reflection.policy or 'reflects'}", "blue")
    change = course_change(tree, node.id)
    if change is not None and abs(change) >= _TURN:
        label.append(
            "  ▲ turns for the better" if change > 0 else "  ▼ turns for the worse", "green" if change > 0 else "red"
        )
    if node.finish is not None:
        verdict = node.verdict and (node.verdict.label or f"unscored: {node.verdict.unscored}")
        label.append(f"  ■ {'cut off' if node.finish == 'length' else verdict}", style)
    return label


def _legend(pairs: Sequence[Pair]) -> Text:
    lines = [
        "",
        "value: share of desirable chains below; +n and −n: chosen and rejected side of pair n",
        f"◆: the step reflects (on the policy that it names); ▲ and ▼: it changes the value by {_TURN} or more",
    ]
    for number, pair in enumerate(pairs, start=1):
        found = pair.provenance
        lines.append(
            f"pair {number}: {pair.kind} ({pair.direction}), values {found.chosen_value:.2f} over"
            f" {found.rejected_value:.2f}, tokens {len(pair.chosen_ids)} against {len(pair.rejected_ids)}"
        )
    if not pairs:
        lines.append("no pair was drawn from it")
    return Text("\n".join(lines))
