"""The local reflection detector, for real: the shipped weights on shipped steps that it has not been trained on."""

import json

import pytest
import torch

from saro.errors import InputError
from saro.judges.detector import FOLDER, Encoded, ReflectionDetector, _longest, encode, token_scores
from saro.judges.reflection import Step
from saro.policies import load_policies


def _rows(name):
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_no_prompt_of_the_test_steps_stands_in_the_training_steps():
    train, test = _rows("train"), _rows("test")
    assert len(test) >= 300
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in test}
    for row in train + test:
        assert (row["evidence"] is not None) == row["reflects"]
        assert row["evidence"] is None or row["evidence"] in row["step"]


def test_only_chains_that_no_other_goes_on_from_are_read():
    paths = [("p",), ("p", "a"), ("p", "a", "b"), ("p", "c"), ("q",), ("p", "a", "b")]
    assert _longest(paths) == [("p", "a", "b"), ("p", "c"), ("q",)]


def test_spans_are_those_of_the_steps(renderer):
    chain = encode(renderer.tokenizer, "How?", ["It asks.", "It may harm."])
    texts = [renderer.tokenizer.decode(chain.token_ids[slice(*span)]) for span in chain.spans]
    assert texts == ["It asks.", "It may harm."]
    assert chain.path == ("How?", "It asks.", "It may harm.")


def test_a_chain_is_cut_after_the_longest_that_is_read(renderer):
    chain = encode(renderer.tokenizer, "How?", ["It asks. " * 400, "It may harm."])
    assert len(chain.token_ids) == 1024
    assert chain.spans[-1] == (1024, 1024)


def test_scores_do_not_depend_on_what_is_read_together(fresh_model):
    model = fresh_model().get_decoder()
    head = torch.nn.Linear(model.config.hidden_size, 1)
    chains = [Encoded((), list(range(5, 5 + size)), []) for size in (3, 40, 7)]
    with torch.no_grad():
        together = token_scores(model, head, chains)
        for chain, scores in zip(chains, together, strict=True):
            [alone] = token_scores(model, head, [chain])
            torch.testing.assert_close(scores, alone, rtol=1e-4, atol=1e-5)


def test_without_weights_there_is_a_mend(tmp_path):
    with pytest.raises(InputError, match="no weights"):
        ReflectionDetector([], folder=tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not (FOLDER / "head.safetensors").is_file(), reason="the detector has not been trained yet")
def test_it_says_what_it_said_when_it_was_measured():
    """A part of the test steps; benchmarks/reflection_detector.py measures all of them."""
    rows = _rows("test")[:60]
    detector = ReflectionDetector(list(load_policies()))
    found = detector.judge([Step(row["prompt"], tuple(row["before"]), row["step"]) for row in rows])
    agreed = sum((verdict.label == "reflects") == row["reflects"] for verdict, row in zip(found, rows, strict=True))
    assert agreed >= 48
    for verdict, row in zip(found, rows, strict=True):
        start, end = verdict.evidence or (0, 0)
        assert (verdict.evidence is not None) == (verdict.label == "reflects")
        assert 0 <= start <= end <= len(row["step"])
        assert verdict.policy is None or verdict.policy in load_policies()
    assert detector.judge([Step("How?", (), "")])[0].label is None
