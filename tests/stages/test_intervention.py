"""Interventions: for whom, where, and with what."""

import pytest

from saro import chains
from saro.policies import load_policies
from saro.records import Chain, Prompt, Verdict
from saro.stages.intervention import plan_interventions
from saro.trees import TreeBuilder

POLICIES = load_policies()
COMPLIES = "<think>\nIt asks.\n\nFine.\n</think>\n\nSure."
VERDICT = Verdict(judge="by hand", label="compliance")


@pytest.fixture
def grow(renderer):
    """``grow(prompt, (reply, desirable), …)``: the tree of these replies."""

    def make(prompt, *replies):
        builder = TreeBuilder(prompt, renderer.prompt_ids(prompt.text), "m", 0)
        for text, desirable in replies:
            ids = renderer.encode(text)
            lengths = renderer.step_lengths(ids)
            pieces = [ids[sum(lengths[:place]) : sum(lengths[: place + 1])] for place in range(len(lengths))]
            builder.add(pieces, "stop", VERDICT, desirable)
        return builder.tree()

    return make


def _prompt(label="harmful", category="fraud", name="p"):
    kind = "harmful" if label == "harmful" else "lookalike"
    return Prompt(id=name, text="How?", label=label, kind=kind, category=category)


def test_prompts_without_a_desirable_chain_get_one(grow, renderer):
    trees = [
        grow(_prompt(), (COMPLIES, False), (COMPLIES, True)),
        grow(_prompt(), (COMPLIES, False), (COMPLIES, None)),
        grow(_prompt(), (COMPLIES, None)),
        grow(_prompt(category="unknown"), (COMPLIES, False)),
        grow(_prompt("benign", "unknown"), (COMPLIES, False)),
    ]
    assert [plan.tree for plan in plan_interventions(trees, POLICIES, renderer)] == [1, 4]


@pytest.mark.parametrize("label", ["harmful", "benign"])
@pytest.mark.parametrize(
    "reply", [COMPLIES, "<think>\nFine.\n</think>\n\nSure.", "Sure.", "<think>\n\n</think>\n\nSure."]
)
def test_the_chain_goes_on_well_formed_wherever_the_reflection_stands(grow, renderer, label, reply):
    for name in "abcdef":  # each variant of the text
        tree = grow(_prompt(label, name=name), (reply, False))
        [plan] = plan_interventions([tree], POLICIES, renderer)
        text = renderer.decode(plan.token_ids)
        goes_on = "\n\n" in reply.partition("</think>")[0]  # otherwise the first piece holds all of the reasoning
        assert plan.kept == (tree.nodes[0] if goes_on else None)
        chain = chains.parse(f"{text}So.\n</think>\n\nNo.")
        assert isinstance(chain, Chain)
        put_in, _ = chain.steps[-2:]
        assert ("fraud policy" in put_in) == (label == "harmful")
        before = renderer.decode(plan.kept.token_ids) if plan.kept else "<think>\n"
        assert text == f"{before}{put_in}\n\n"
