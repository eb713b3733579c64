"""Trees: what was sampled does not depend on how rows were decoded together, and no shared token is decoded twice."""

import pytest
import torch

from saro.engines.branching import Shape, grow
from saro.engines.local import Sampling
from saro.models import load_model
from saro.training.packing import unique_tokens

PROMPTS = [[5, 6, 7], [50, 60, 70, 80, 90, 100, 110], [9], list(range(30, 70))]
EOS = frozenset(range(7, 12))
ENDS = frozenset(range(12, 60))  # tokens that end a step


def ends_step(token_ids):
    return token_ids[-1] in ENDS


ENDLESS = Shape((2, 2), Sampling(40), ends_step, frozenset())


@pytest.fixture(scope="module")
def model(tiny_student):
    return load_model(str(tiny_student), "cpu", torch.float32)


def grown(model, capacity, max_step_tokens=None):
    # The whole distribution: at a nucleus's edge the last bit of a number would decide.
    shape = Shape((3, 2, 2), Sampling(40, 1.0), ends_step, EOS, max_step_tokens)
    return grow(model, PROMPTS, range(4), shape, capacity)


@pytest.mark.parametrize(
    ("arch", "config"),
    [
        ("llama", {}),
        ("mistral", {"sliding_window": 8}),
        ("gemma3", {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}),
    ],
)
def test_greedy_is_what_generate_gives(make_student, arch, config):
    model = load_model(str(make_student(arch, **config)), "cpu", torch.float32)
    found, _ = grow(model, PROMPTS, [0] * 4, ENDLESS, 5)
    for prompt, leaves in zip(PROMPTS, found, strict=True):
        options = {"do_sample": False, "max_new_tokens": 40, "eos_token_id": None, "pad_token_id": 1}
        expected = model.generate(torch.tensor([prompt]), **options)[0, len(prompt) :].tolist()
        assert all(list(leaf.token_ids) == expected for leaf in leaves)
        assert leaves


def test_what_is_sampled_depends_on_the_seeds_alone(model):
    whole, _ = grown(model, 100)
    assert any(len(leaves) == 12 for leaves in whole)
    assert len({leaf.token_ids for leaves in whole for leaf in leaves}) > 20
    for capacity in (1, 5, 16):
        found, _ = grown(model, capacity)
        assert [[leaf.token_ids for leaf in leaves] for leaves in found] == [
            [leaf.token_ids for leaf in leaves] for leaves in whole
        ]


def test_log_probs_are_those_of_a_fresh_pass(model):
    found, _ = grown(model, 6)
    for prompt, leaves in zip(PROMPTS, found, strict=True):
        for leaf in leaves:
            ids = torch.tensor([[*prompt, *leaf.token_ids]])
            fresh = torch.log_softmax(model(input_ids=ids).logits[0], -1)[len(prompt) - 1 : -1]
            expected = fresh.gather(1, ids[0, len(prompt) :, None])[:, 0]
            torch.testing.assert_close(torch.tensor(leaf.log_probs), expected, rtol=0, atol=1e-4)


def test_no_shared_token_is_decoded_twice(model):
    found, taken = grown(model, 6)
    assert sum(len(leaf.token_ids) for leaves in found for leaf in leaves) > taken.tokens
    # siblings may say the same by chance; the tree has no more tokens than were decoded
    assert taken.tokens >= sum(unique_tokens([leaf.token_ids for leaf in leaves]) for leaves in found)
    _, taken = grow(model, PROMPTS, [0] * 4, ENDLESS, 5)
    assert taken.slots >= taken.tokens


def test_chains_end_as_they_say(model):
    found, _ = grown(model, 8, max_step_tokens=10)
    for leaves in found:
        for leaf in leaves:
            assert (leaf.finish == "stop") == (leaf.token_ids[-1] in EOS)
            assert not EOS & set(leaf.token_ids[:-1])
            run = 0
            for token in leaf.token_ids[:-1]:
                run = 0 if token in ENDS else run + 1
                assert run < 10
