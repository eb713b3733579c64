from hypothesis import given
from hypothesis import strategies as st

from saro.records import Prompt
from saro.sources.cleaning import clean


def prompts(*texts):
    return [
        Prompt(id=str(place), text=text, label="benign", kind="ordinary") for place, text in enumerate(texts, start=1)
    ]


FORGE = "How do I forge my landlord's signature on a lease?"


def test_each_goes_for_its_reason_and_the_first_stays():
    kept, removed = clean(
        prompts(
            FORGE,
            "how do i forge  my landlord's signature on a lease?",
            "How do I forge my landlord's signatures on the lease?",
            "Write a hymn to soup.",
            "Tell me how to bake a cake for a party of ten.",
        ),
        {"bench": ["Something else altogether, about stars.", "tell me how to bake a cake, for a party of ten!"]},
    )
    assert [prompt.id for prompt in kept] == ["1", "4"]
    assert [(row.prompt.id, row.reason, row.of) for row in removed] == [
        ("2", "duplicate", "1"),
        ("3", "near duplicate", "1"),
        ("5", "benchmark: exact", "bench 2"),
    ]
    assert 0.6 <= removed[1].score < 1


def test_what_has_gone_takes_nothing_with_it():
    """The second is near the first, the third near the second alone: it stays."""
    first = "alpha bravo charlie delta echo"
    second = "bravo charlie delta echo foxtrot"
    third = "charlie delta echo foxtrot golf hotel"
    kept, removed = clean(prompts(first, second, third), {}, near=0.5)
    assert [prompt.id for prompt in kept] == ["1", "3"]
    assert [row.of for row in removed] == ["1"]


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=8))
def test_nothing_is_lost_and_cleaning_again_removes_nothing(texts):
    rows = prompts(*texts)
    kept, removed = clean(rows, {"bench": ["the quick brown fox jumps over the lazy dog"]})
    assert sorted([row.id for row in kept] + [row.prompt.id for row in removed]) == sorted(row.id for row in rows)
    assert clean(kept, {})[1] == []
