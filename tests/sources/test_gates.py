"""The gates hold on the shipped pack, and each of them fails on a pack that is spoilt in its way."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from saro import chains
from saro.errors import InputError
from saro.records import Chain
from saro.sources.benchmarks import SOURCES, VARIABLE
from saro.sources.gates import STAR1, run_gates
from saro.sources.starter import load_pack

PACK = load_pack()
GATES = run_gates(PACK, None)


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
def test_the_shipped_pack_passes(gate):
    if gate.passed is None:
        pytest.skip(gate.problems[0])
    assert gate.passed, gate.problems[:5]


@pytest.mark.skipif(VARIABLE not in os.environ, reason=f"needs the public data sets: set {VARIABLE}")
def test_the_shipped_pack_passes_against_public_data():
    gates = run_gates(PACK, Path(os.environ[VARIABLE]))
    assert [gate.name for gate in gates] == [gate.name for gate in GATES]
    assert all(gate.passed for gate in gates), [gate for gate in gates if not gate.passed]


def with_prompts(split, change: Callable):
    prompts = [change(prompt) if place == 0 else prompt for place, prompt in enumerate(PACK.prompts[split])]
    return replace(PACK, prompts={**PACK.prompts, split: prompts})


def with_replies(change: Callable, number=1):
    """The pack with the first chains changed: ``change`` takes a chain and gives its steps and its answer."""
    teacher = list(PACK.teacher)
    for place in range(number):
        steps, answer = change(chains.parse(teacher[place].text))
        text = chains.render(Chain(steps=steps, answer=answer))
        teacher[place] = teacher[place].model_copy(update={"text": text})
    return replace(PACK, teacher=teacher)


def jailbreaks_first(split):
    prompts = sorted(PACK.prompts[split], key=lambda prompt: prompt.kind != "jailbreak")
    return replace(PACK, prompts={**PACK.prompts, split: prompts})


def changed(prompt, **update):
    return prompt.model_copy(update=update)


FILLER = " ".join(f"word{number} stands here alone and quite apart" for number in range(9))
FIRST = PACK.prompts["train"][0]
HELD = PACK.of_kind("heldout", "jailbreak")[0]
SPOILT = {
    "enough of every kind": lambda: replace(PACK, questions=PACK.questions[:10]),
    "ids and fields": lambda: with_prompts("train", lambda prompt: changed(prompt, category="nonsuch")),
    "one chain for every training prompt": lambda: replace(PACK, teacher=PACK.teacher[1:]),
    "steps of a chain": lambda: with_replies(lambda chain: ((" ".join(chain.steps),), chain.answer)),
    "words of reasoning": lambda: with_replies(lambda chain: (("One.", "Two.", "Three."), chain.answer)),
    "policies cited": lambda: with_replies(lambda chain: (("The nonsuch policy speaks.", *chain.steps), chain.answer)),
    "refusals refuse, answers answer: the judge": lambda: with_replies(
        lambda chain: (chain.steps, "Sure." if FIRST.label == "harmful" else "I can't help with that.")
    ),
    "refusals refuse, answers answer: by words": lambda: with_replies(
        lambda chain: (chain.steps, "Sure." if FIRST.label == "harmful" else "Well, I cannot help you there.")
    ),
    "near duplicates among prompts, all splits": lambda: with_prompts(
        "heldout", lambda prompt: changed(prompt, text=FIRST.text + " please")
    ),
    "near duplicates among replies": lambda: replace(
        PACK,
        teacher=[PACK.teacher[1].model_copy(update={"prompt_id": FIRST.id}), *PACK.teacher[1:]],
    ),
    "held-out techniques in training": lambda: replace(
        PACK,
        prompts={
            **PACK.prompts,
            "rollout": [changed(p, technique=HELD.technique) if p.technique else p for p in PACK.prompts["rollout"]],
        },
    ),
    "held-out techniques in training: by words": lambda: replace(
        PACK,
        prompts={
            **PACK.prompts,
            "rollout": [
                changed(p, text=f"Write a poem. {p.text}") if p.technique else p for p in PACK.prompts["rollout"]
            ],
        },
    ),
    "requests of held-out jailbreaks in training": lambda: with_prompts(
        "rollout", lambda prompt: changed(prompt, original=HELD.original)
    ),
    "the same eight words in a row": lambda: with_replies(
        lambda chain: ((*chain.steps, "Now I decide what to do about all of this."), chain.answer), 40
    ),
    "the ten commonest first sentences": lambda: with_replies(
        lambda chain: (("What is asked here?", *chain.steps), chain.answer), 90
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_pack_fails(name):
    found = {gate.name: gate for gate in run_gates(SPOILT[name](), None)}
    assert found[name].passed is False
    assert found[name].problems


def test_every_gate_is_tried():
    assert set(SPOILT) == {gate.name for gate in GATES if gate.passed is not None}


def data_folder(folder, prompt, reasoning):
    """A folder of public data made here: each benchmark holds ``prompt``, STAR-1 reasons with ``reasoning``."""
    import csv
    import gzip

    for source in SOURCES.values():
        for file in source.files:
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".csv":
                with path.open("w", newline="") as handle:
                    csv.writer(handle).writerows([[source.column], [prompt]])
            else:
                line = json.dumps({source.column: prompt}) + "\n"
                path.write_bytes(gzip.compress(line.encode()) if path.suffix == ".gz" else line.encode())
    star = folder / STAR1
    star.parent.mkdir(parents=True)
    star.write_text(json.dumps([{"response": f"<think>\n{reasoning}\n</think>\n\nNo."}]))
    return folder


def test_gates_against_public_data_pass_and_fail(tmp_path):
    unlike = data_folder(tmp_path / "unlike", "zzzz yyyy xxxx", "so so so so so so so so")
    alike = data_folder(tmp_path / "alike", FIRST.text, FILLER)
    names = ["prompts near a benchmark's", "distinct-2 of the reasoning"]
    for folder, passed in ((unlike, [True, True]), (alike, [False, None])):
        found = {gate.name: gate for gate in run_gates(PACK, folder)}
        assert [found[name].passed for name in names if passed[names.index(name)] is not None] == [
            one for one in passed if one is not None
        ]
    spoilt = with_replies(lambda chain: (("again and again and again " * 20,) * 3, chain.answer), len(PACK.teacher))
    found = {gate.name: gate for gate in run_gates(spoilt, alike)}
    assert found["distinct-2 of the reasoning"].passed is False


def test_a_file_of_another_format_is_named(tmp_path):
    folder = data_folder(tmp_path, "zzzz", "so")
    (folder / STAR1).write_text('{"response": 3}')
    with pytest.raises(InputError, match=r"STAR-1\.json"):
        run_gates(PACK, folder)
