"""Gates over the starter pack: what the runs learn from, and what they are measured on."""

import re
from collections import Counter, defaultdict

from saro import chains
from saro.files import read_jsonl
from saro.policies import load_policies
from saro.records import Chain, Prompt, Reply
from saro.sources.prompts import locate

SPLITS = ("train", "rollout", "heldout")
PROMPTS = {split: list(read_jsonl(locate(f"starter:{split}"), Prompt)) for split in SPLITS}
TEACHER = list(read_jsonl(locate("starter:teacher"), Reply))
POLICIES = load_policies()
ALL = [prompt for split in SPLITS for prompt in PROMPTS[split]]
BY_ID = {prompt.id: prompt for prompt in ALL}
KINDS = {"harmful", "jailbreak", "lookalike", "ordinary"}


def test_ids_are_unique_and_splits_are_named():
    assert len(BY_ID) == len(ALL)
    for split, prompts in PROMPTS.items():
        assert {prompt.split for prompt in prompts} == {split}


def test_there_is_enough_of_every_kind():
    assert len(TEACHER) >= 200
    assert len(PROMPTS["rollout"]) >= 100
    assert len(PROMPTS["heldout"]) >= 120
    for prompts in PROMPTS.values():
        counts = Counter(prompt.kind for prompt in prompts)
        assert set(counts) == KINDS
        assert min(counts.values()) >= 0.1 * len(prompts), counts
    assert {BY_ID[reply.prompt_id].kind for reply in TEACHER} == KINDS


def test_the_teacher_answers_train_and_nothing_else():
    assert Counter(reply.prompt_id for reply in TEACHER) == Counter(prompt.id for prompt in PROMPTS["train"])
    assert {reply.finish for reply in TEACHER} == {"stop"}


def test_jailbreaks_say_what_they_wrap():
    for prompt in ALL:
        is_jailbreak = prompt.kind == "jailbreak"
        assert bool(prompt.technique) == bool(prompt.original) == is_jailbreak, prompt.id
        assert prompt.original != prompt.text


def test_every_harm_has_its_policy_and_appears_in_every_split():
    for split, prompts in PROMPTS.items():
        assert {prompt.category for prompt in prompts} == set(POLICIES), split
    assert all((prompt.category == "no-harm") == (prompt.kind == "ordinary") for prompt in ALL)


def test_held_out_techniques_are_new():
    techniques = {split: {prompt.technique for prompt in prompts} - {None} for split, prompts in PROMPTS.items()}
    assert techniques["heldout"]
    assert not techniques["heldout"] & (techniques["train"] | techniques["rollout"])


def test_chains_have_three_to_five_steps():
    for reply in TEACHER:
        chain = chains.parse(reply.text)
        assert isinstance(chain, Chain), (reply.prompt_id, chain)
        assert 3 <= len(chain.steps) <= 5, reply.prompt_id
        assert chains.render(chain) == reply.text, reply.prompt_id


def test_every_cited_policy_exists_and_the_prompts_own_is_cited():
    for reply in TEACHER:
        reasoning = " ".join(chains.parse(reply.text).steps).lower()
        assert set(re.findall(r"\bthe ([\w-]+) policy\b", reasoning)) <= set(POLICIES), reply.prompt_id
        assert BY_ID[reply.prompt_id].category in re.findall(r"([\w-]+) policy\b", reasoning), reply.prompt_id


def grams(text):
    text = " ".join(re.findall(r"\w+", text.lower()))
    return {text[start : start + 5] for start in range(max(1, len(text) - 4))}


def near_duplicates(texts, threshold=0.6):
    """Pairs of texts whose character 5-grams have a Jaccard index at or above the threshold, by an inverted index."""
    sets, holders, found = {}, defaultdict(list), []
    for key, text in texts.items():
        own = sets[key] = grams(text)
        shared = Counter(other for gram in own for other in holders[gram])
        found += [
            (other, key)
            for other, count in shared.items()
            if count / (len(own) + len(sets[other]) - count) >= threshold
        ]
        for gram in own:
            holders[gram].append(key)
    return found


def test_near_duplicates_are_found():
    texts = {"a": "How do I clone a bank card?", "b": "how do I clone a bank card", "c": "How do I bake a loaf?"}
    assert near_duplicates(texts) == [("a", "b")]


def test_no_near_duplicates_within_or_across_splits():
    assert near_duplicates({prompt.id: prompt.text for prompt in ALL}) == []


def test_a_held_out_jailbreak_wraps_no_request_of_train_or_rollout():
    seen = {prompt.id: prompt.original or prompt.text for prompt in ALL if prompt.split != "heldout"}
    held = {prompt.id: prompt.original for prompt in PROMPTS["heldout"] if prompt.original}
    pairs = near_duplicates(seen | held)
    assert [pair for pair in pairs if (pair[0] in held) != (pair[1] in held)] == []


def test_the_teachers_answers_are_no_copies():
    assert near_duplicates({reply.prompt_id: reply.text for reply in TEACHER}) == []


def test_at_least_ten_policies_with_their_sections():
    assert len(POLICIES) >= 10
    for policy in POLICIES.values():
        sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", policy.text, re.MULTILINE))
        for name in ("Refuse", "Answer", "Answer safely"):
            assert sections[name].count("\n- ") + sections[name].startswith("- ") >= 1, (policy.id, name)
