from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saro.records import Prompt, Tree, Verdict
from saro.trees import (
    TreeBuilder,
    after_insertion,
    children_of,
    course_change,
    leaves,
    leaves_below,
    path,
    value,
)

PROMPT = Prompt(id="p", text="t", label="benign", kind="ordinary")
VERDICT = Verdict(judge="j", label="compliance")
# few tokens, so that chains share prefixes
PIECES = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=2).map(tuple), min_size=1, max_size=4)
CHAINS = st.lists(
    st.tuples(PIECES, st.sampled_from(["stop", "length"]), st.sampled_from([True, False, None])), min_size=1, max_size=8
)


def build(chains):
    builder = TreeBuilder(PROMPT, (7, 8), model="m", seed=1)
    for pieces, finish, desirable in chains:
        builder.add(pieces, finish, VERDICT, desirable)
    tree = builder.tree()
    assert [node.id for node in tree.nodes] == list(range(len(tree.nodes)))
    assert all(node.parent is None or node.parent < node.id for node in tree.nodes)  # or walks upwards never end
    return tree


@given(CHAINS)
def test_paths_give_back_the_added_chains(chains):
    tree = build(chains)
    found = [([node.token_ids for node in path(tree, leaf.id)], leaf.finish, leaf.desirable) for leaf in leaves(tree)]
    assert sorted(found, key=repr) == sorted(chains, key=repr)


@given(CHAINS)
def test_shared_prefixes_are_stored_once(chains):
    tree = build(chains)
    inner = [node for node in tree.nodes if node.finish is None]
    prefixes = {tuple(pieces[:depth]) for pieces, _, _ in chains for depth in range(1, len(pieces))}
    stored = [tuple(step.token_ids for step in path(tree, node.id)) for node in inner]
    assert len(stored) == len(set(stored))
    assert set(stored) == prefixes
    assert len(leaves(tree)) == len(chains)


@given(CHAINS)
def test_nodes_stand_in_depth_first_order(chains):
    tree = build(chains)
    visited = []

    def visit(parent):
        for node in children_of(tree.nodes).get(parent, []):
            visited.append(node.id)
            visit(node.id)

    visit(None)
    assert visited == list(range(len(tree.nodes)))


@given(CHAINS)
def test_only_leaves_are_judged_and_have_no_children(chains):
    tree = build(chains)
    parents = {node.parent for node in tree.nodes}
    for node in tree.nodes:
        assert (node.finish is None) == (node.id in parents)
        assert (node.verdict is None) == (node.finish is None)


@given(CHAINS)
def test_a_value_is_the_mean_of_the_scored_leaves_below(chains):
    tree = build(chains)
    for node in tree.nodes:
        stem = [step.token_ids for step in path(tree, node.id)]
        if node.finish is None:  # chains that run through it, and go on
            outcomes = [good for pieces, _, good in chains if pieces[: len(stem)] == stem and len(pieces) > len(stem)]
            assert len(leaves_below(tree, node.id)) == len(outcomes)
        else:
            outcomes = [node.desirable]
        scored = [good for good in outcomes if good is not None]
        found = value(tree, node.id)
        if not scored:
            assert found is None
        else:
            assert 0 <= found <= 1
            assert found == pytest.approx(fmean(scored))


@given(CHAINS)
def test_json_round_trip(chains):
    tree = build(chains)
    assert Tree.model_validate_json(tree.model_dump_json()) == tree


def test_an_example():
    tree = build(
        [
            ([(1,), (2,), (3,)], "stop", True),
            ([(4,)], "length", None),
            ([(1,), (2,), (3,)], "stop", False),
            ([(1,), (5,)], "stop", True),
        ]
    )
    assert [(node.parent, node.token_ids) for node in tree.nodes] == [
        (None, (1,)),
        (0, (2,)),
        (1, (3,)),
        (1, (3,)),
        (0, (5,)),
        (None, (4,)),
    ]
    assert [value(tree, node.id) for node in tree.nodes] == [pytest.approx(2 / 3), 0.5, 1.0, 0.0, 1.0, None]
    assert (tree.prompt_ids, tree.model, tree.seed, tree.prompt) == ((7, 8), "m", 1, PROMPT)


def test_what_follows_a_reflection_put_in_counts_for_itself_alone():
    builder = TreeBuilder(PROMPT, (7,), model="m", seed=1)
    builder.add([(1,), (2,)], "stop", VERDICT, False, [-1.0, -2.0])
    builder.add([(1,), (8, 9), (3,)], "stop", VERDICT, True, [-1.0, -3.0], inserted=1)
    builder.add([(1,), (8, 9), (4,)], "stop", VERDICT, True, [-1.0, -4.0], inserted=1)
    tree = builder.tree()
    assert [(node.token_ids, node.log_probs, node.inserted) for node in tree.nodes] == [
        ((1,), (-1.0,), False),
        ((2,), (-2.0,), False),
        ((8, 9), (), True),
        ((3,), (-3.0,), False),
        ((4,), (-4.0,), False),
    ]
    assert [value(tree, node.id) for node in tree.nodes] == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert [leaf.id for leaf in leaves(tree)] == [1]
    assert after_insertion(tree) == {2, 3, 4}
    assert course_change(tree, 2) is None


def test_a_step_that_was_put_in_is_not_the_same_as_one_that_was_said():
    builder = TreeBuilder(PROMPT, (7,), model="m", seed=1)
    builder.add([(8,), (2,)], "stop", VERDICT, False)
    builder.add([(8,), (3,)], "stop", VERDICT, True, inserted=0)
    assert [node.inserted for node in builder.tree().nodes] == [False, False, True, False]


def test_a_course_change_is_the_value_less_the_parents():
    tree = build([([(1,), (2,), (3,)], "stop", True), ([(1,), (5,)], "stop", False), ([(1,), (6,)], "length", None)])
    assert [course_change(tree, node.id) for node in tree.nodes] == [None, 0.5, 0.0, -0.5, None]


def test_a_chain_of_thousands_of_steps():
    """A model that repeats itself reaches this within the token limit."""
    pieces = [(1,)] * 3000
    tree = build([(pieces, "length", None)])
    assert [node.token_ids for node in path(tree, leaves(tree)[0].id)] == pieces


def test_an_empty_piece_is_an_error():
    builder = TreeBuilder(PROMPT, (7,), model="m", seed=1)
    with pytest.raises(ValueError):
        builder.add([(1,), ()], "stop", VERDICT, True)
