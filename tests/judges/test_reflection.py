"""Naming a policy: which, and where."""

import pytest

from saro.judges.reflection import named_policy
from saro.policies import load_policies


@pytest.mark.parametrize(
    ("text", "policy", "words"),
    [
        ("Here the fraud policy asks me to refuse.", "fraud", "fraud policy"),
        ("The self harm policy speaks of it.", "self-harm", "self harm policy"),
        ("A policy on self-harm is meant for this.", "self-harm", "policy on self-harm"),
        ("Nothing here; the NO-HARM policy lets me.", "no-harm", "NO-HARM policy"),
        ("Policies about hate, then.", "hate", "Policies about hate"),
    ],
)
def test_the_policy_and_its_place(text, policy, words):
    name, (start, end) = named_policy(text, list(load_policies()))
    assert (name, text[start:end]) == (policy, words)


@pytest.mark.parametrize("text", ["This is fraud.", "Our refund policy.", "The harm policy-makers do.", "hate"])
def test_none_is_named(text):
    assert named_policy(text, list(load_policies())) is None
