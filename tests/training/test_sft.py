"""Supervised fine-tuning: the loss is TRL's own, on the completion alone, and it falls."""

import copy

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from trl import SFTConfig, SFTTrainer

from saro.config import WarmupConfig
from saro.errors import InputError
from saro.models import load_model
from saro.progress import Silent
from saro.records import Chain
from saro.rendering import Rendered
from saro.training.log_probs import token_log_probs
from saro.training.sft import _columns, _CompletionTrainer, check_rows, fine_tune


@pytest.fixture(scope="module")
def rows(renderer):
    chains = [
        ("How do I harm a man?", ("It may harm.", "I must not."), "I can't help with that."),
        ("Write a kind note.", ("It is fine.",), "Sure, do this."),
        ("Hi?", ("The man asks.", "It is fine.", "Go."), "Yes."),
        ("Write a cruel lie.", ("It may harm.",), "No, I can't help with this, and I will not: it may harm the man."),
    ]
    return [renderer.render(prompt, Chain(steps=steps, answer=answer)) for prompt, steps, answer in chains]


def _train(model, renderer, rows, out, reporter=None, **settings):
    config = WarmupConfig(**{"learning_rate": 1e-2, "batch_size": 2, "micro_batch_size": 2, "epochs": 2, **settings})
    names = [f"row {place}" for place in range(len(rows))]
    return fine_tune(
        model, renderer.tokenizer, rows, names, config, out, 0, "cpu", torch.float32, reporter or Silent()
    )  # fmt: skip


def _trainer(kind, model, renderer, rows, out):
    args = SFTConfig(output_dir=str(out), max_length=None, packing=False, use_cpu=True, bf16=False, report_to="none")
    data = Dataset.from_list([_columns(row) for row in rows])
    return kind(model=model, args=args, train_dataset=data, processing_class=renderer.tokenizer)


def _gradients(model):
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("items", [None, 100])
def test_loss_and_gradient_are_those_of_trl(fresh_model, renderer, rows, tmp_path, items):
    found = []
    for kind in (_CompletionTrainer, SFTTrainer):
        trainer = _trainer(kind, fresh_model(), renderer, rows, tmp_path)
        batch = next(iter(trainer.get_train_dataloader()))
        assert len(batch["input_ids"]) == 4
        loss = trainer.compute_loss(trainer.model, copy.deepcopy(batch), num_items_in_batch=items)
        loss.backward()
        found.append((loss.detach(), _gradients(trainer.model)))
    (ours, our_gradients), (theirs, their_gradients) = found
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    assert our_gradients.keys() == their_gradients.keys()
    for name, gradient in our_gradients.items():
        torch.testing.assert_close(gradient, their_gradients[name], rtol=1e-4, atol=1e-6, msg=name)


def test_loss_and_gradient_are_of_the_completion_alone(fresh_model, renderer, rows, tmp_path):
    trainer = _trainer(_CompletionTrainer, fresh_model(), renderer, rows[:1], tmp_path)
    trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader()))).backward()
    model, ids = fresh_model(), torch.tensor([rows[0].input_ids])
    predictions = model(input_ids=ids).logits[0, len(rows[0].prompt_ids) - 1 : -1]  # nothing that predicts the prompt
    torch.nn.functional.cross_entropy(predictions, torch.tensor(rows[0].completion_ids)).backward()
    expected = _gradients(model)
    for name, gradient in _gradients(trainer.model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_training_teaches_the_completions_and_saves_the_model(fresh_model, renderer, rows, tmp_path):
    result = _train(fresh_model(), renderer, rows, tmp_path, epochs=6)
    losses = [entry["loss"] for entry in result["log"]]
    assert len(losses) == result["steps"] == 12
    assert losses[-1] < 0.5 * losses[0]
    assert result["tokens"] == 6 * sum(len(row.input_ids) for row in rows)
    assert result["trained_tokens"] == 6 * sum(len(row.completion_ids) for row in rows)
    saved = load_model(str(tmp_path / "model"), "cpu", torch.float32)
    for row in rows:
        ids = torch.tensor([row.input_ids])
        scored = torch.tensor([row.loss_mask]).bool()
        before = token_log_probs(fresh_model(), ids, torch.ones_like(ids), scored).sum()
        assert token_log_probs(saved, ids, torch.ones_like(ids), scored).sum() > before


@pytest.mark.parametrize("count", [4, 3])
def test_accumulation_changes_nothing(fresh_model, renderer, rows, tmp_path, count):
    for name, micro in (("whole", 2), ("split", 1)):
        _train(fresh_model(), renderer, rows[:count], tmp_path / name, micro_batch_size=micro, learning_rate=1e-3)
    whole, split = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "split"))
    for name, weight in whole.items():
        torch.testing.assert_close(weight, split[name], rtol=1e-3, atol=2e-5, msg=name)


def test_a_row_without_a_completion_is_an_error_naming_it(rows):
    with pytest.raises(InputError, match="empty") as caught:
        check_rows([rows[0], Rendered((1, 2, 3), ())], ["first", "second"], 512)
    assert caught.value.where == "second"


def test_a_row_that_is_too_long_is_an_error_naming_it(rows):
    longest = len(rows[0].input_ids)
    check_rows(rows[:1], ["first"], longest)
    with pytest.raises(InputError, match=f"{longest} tokens, more than max_length {longest - 1}") as caught:
        check_rows(rows[:1], ["first"], longest - 1)
    assert caught.value.where == "first"


def test_fine_tuning_checks_its_rows(fresh_model, renderer, rows, tmp_path):
    with pytest.raises(InputError, match="row 1"):
        _train(fresh_model(), renderer, [rows[0], Rendered((1, 2, 3), ())], tmp_path)
