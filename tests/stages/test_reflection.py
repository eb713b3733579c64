"""Step verdicts: what the judge is asked, and what is counted."""

from saro.judges.reflection import Step
from saro.records import Prompt, Reflection, Verdict
from saro.stages.reflection import count_reflections, judge_steps
from saro.trees import TreeBuilder

TEXTS = {
    1: "<think>\nIt asks.\n\n",
    2: "It may harm.\n</think>\n\n",
    3: "Fine.\n</think>\n\n",
    4: "No.",
    5: "Sure.",
    6: "It may harm.\n</think>\nNo.",
}


def _decode(token_ids):
    return "".join(TEXTS[token] for token in token_ids)


class _Judge:
    def __init__(self):
        self.asked = []

    def judge(self, steps):
        self.asked = list(steps)
        return [Reflection(judge="j", label="reflects" if "harm" in step.text else "none") for step in steps]


def _tree(label, *chains):
    kind = "harmful" if label == "harmful" else "lookalike"
    builder = TreeBuilder(Prompt(id="p", text="How?", label=label, kind=kind), (9,), "m", 0)
    for pieces, desirable in chains:
        builder.add([(piece,) for piece in pieces], "stop", Verdict(judge="j", label="x"), desirable)
    return builder.tree()


def test_every_step_is_judged_once_with_what_stands_before_it():
    judge = _Judge()
    [tree] = judge_steps([_tree("harmful", ((1, 2, 4), True), ((1, 3, 5), False))], judge, _decode)
    assert judge.asked == [
        Step("How?", (), "It asks."),
        Step("How?", ("It asks.",), "It may harm."),
        Step("How?", ("It asks.",), "Fine."),
    ]
    found = [(node.token_ids, node.reflection and node.reflection.label) for node in tree.nodes]
    assert found == [((1,), "none"), ((2,), "reflects"), ((4,), None), ((3,), "none"), ((5,), None)]


def test_a_step_that_its_answer_follows_without_a_blank_line_is_judged_too():
    [tree] = judge_steps([_tree("harmful", ((1, 6), True))], _Judge(), _decode)
    assert [node.reflection.label for node in tree.nodes] == ["none", "reflects"]


def test_chains_are_counted_by_whether_they_reflect_and_what_came_of_it():
    trees = [
        _tree("harmful", ((1, 2, 4), True), ((1, 2, 5), False), ((1, 3, 5), False)),
        _tree("benign", ((1, 2, 4), False), ((1, 3, 5), True), ((1, 3, 5), None)),
    ]
    assert count_reflections(judge_steps(trees, _Judge(), _decode)) == {
        "steps": {"none": 4, "reflects": 2},
        "benign, does not": {"desirable": 1, "not whole": 1},
        "benign, reflects": {"undesirable": 1},
        "harmful, does not": {"undesirable": 1},
        "harmful, reflects": {"desirable": 1, "undesirable": 1},
    }


def test_chains_with_a_step_that_could_not_be_judged_are_counted_apart():
    class Silent(_Judge):
        def judge(self, steps):
            return [
                one if one.label == "reflects" else Reflection(judge="j", unscored="no verdict")
                for one in super().judge(steps)
            ]

    trees = [_tree("harmful", ((1, 2, 4), True), ((1, 3, 5), False))]
    counts = count_reflections(judge_steps(trees, Silent(), _decode))
    assert counts["harmful, reflects"] == {"desirable": 1}
    assert counts["harmful, not judged"] == {"undesirable": 1}
    assert counts["steps"]["unscored"] == 2
    assert count_reflections(trees) == {"steps": {}}
