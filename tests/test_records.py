import pytest
from pydantic import ValidationError

from saro.records import LABEL_OF_KIND, Chain, Node, Pair, PairProvenance, Policy, Prompt, Reply, Tree, Verdict

PROMPT = Prompt(id="p", text="How do I bake bread?", label="benign", kind="ordinary")
VERDICT = Verdict(judge="j", label="refusal", evidence=(0, 4))
NODE = Node(id=0, parent=None, token_ids=(1, 2), finish="stop", verdict=VERDICT, desirable=True)
PROVENANCE = PairProvenance(
    model="m",
    seed=0,
    parent=None,
    chosen_nodes=(0,),
    rejected_nodes=(1,),
    chosen_value=1.0,
    rejected_value=0.0,
    chosen_verdict=VERDICT,
    rejected_verdict=VERDICT,
)
RECORDS = [
    Policy(id="self-harm", title="t", category="c", objective="o", text="## Refuse"),
    PROMPT,
    Chain(steps=("one", "two"), answer="three"),
    Reply(prompt_id="p", text="<think>…", engine="e"),
    VERDICT,
    NODE,
    Tree(prompt=PROMPT, prompt_ids=(5,), nodes=(NODE,), model="m", seed=3),
    Pair(
        id="x",
        kind="outcome",
        direction="harmful",
        prompt_id="p",
        prompt=(),
        chosen=(),
        rejected=(),
        prefix_ids=(1,),
        chosen_ids=(2,),
        rejected_ids=(3,),
        provenance=PROVENANCE,
    ),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_json_round_trip(record):
    assert type(record).model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_unknown_fields_are_errors(record):
    with pytest.raises(ValidationError, match="extra_forbidden"):
        type(record).model_validate({**record.model_dump(), "surprise": 1})


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_are_immutable(record):
    name = next(iter(type(record).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(record, name, getattr(record, name))


@pytest.mark.parametrize("kind", LABEL_OF_KIND)
@pytest.mark.parametrize("label", ["harmful", "benign"])
def test_label_follows_kind(kind, label):
    row = {"id": "p", "text": "t", "kind": kind, "label": label}
    if LABEL_OF_KIND[kind] == label:
        assert Prompt.model_validate(row).label == label
    else:
        with pytest.raises(ValidationError, match="means label"):
            Prompt.model_validate(row)


def test_jailbreaks_are_harmful_and_lookalikes_benign():
    assert LABEL_OF_KIND == {"harmful": "harmful", "jailbreak": "harmful", "lookalike": "benign", "ordinary": "benign"}


@pytest.mark.parametrize("fields", [{}, {"label": "refusal", "unscored": "no answer"}])
def test_a_verdict_has_a_label_or_a_reason_never_both(fields):
    with pytest.raises(ValidationError, match="either a label or the reason"):
        Verdict(judge="j", **fields)


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (Prompt, {"id": "p", "text": "", "label": "benign", "kind": "ordinary"}),
        (Prompt, {"id": "p", "text": "t", "label": "unsure", "kind": "ordinary"}),
        (Chain, {"steps": (), "answer": "a"}),
        (Chain, {"steps": ("s",), "answer": ""}),
        (Node, {"id": 0, "parent": None, "token_ids": ()}),
        (Node, {"id": -1, "parent": None, "token_ids": (1,)}),
        (Reply, {"prompt_id": "p", "text": "t", "engine": "e", "finish": "maybe"}),
        (Reply, {"prompt_id": "p", "text": "t", "engine": "e", "sample": -1}),
        (Policy, {"id": "Self Harm", "title": "t", "category": "c", "objective": "o", "text": "x"}),
        (Policy, {"id": "a\n", "title": "t", "category": "c", "objective": "o", "text": "x"}),
        (Policy, {"id": "a", "title": "t", "category": "c", "objective": "o", "text": ""}),
    ],
)
def test_values_out_of_bounds_are_errors(model, fields):
    with pytest.raises(ValidationError):
        model(**fields)
