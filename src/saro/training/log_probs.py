"""Log-probs of chosen tokens, with the LM head applied only where one is predicted."""

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from saro.errors import InputError


def token_log_probs(
    model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, scored: torch.Tensor
) -> torch.Tensor:
    """Log-prob of every scored token given what stands before it in its row.

    Hidden states go through the LM head only at the positions that predict a scored token: with a large vocabulary the
    head is a good part of a small model's cost and most of its memory.

    Args:
        model: a causal LM that passed :func:`check_head`.
        input_ids: (R, L) token ids.
        attention_mask: (R, L), 1 at tokens.
        scored: (R, L) bool; false in the first column.

    Returns:
        (N,) float32 log-probs in nats, row by row, N the number of scored tokens.
    """
    hidden = model.get_decoder()(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
    predicting = torch.zeros_like(scored)
    predicting[:, :-1] = scored[:, 1:]
    logits = model.get_output_embeddings()(hidden[predicting])
    return -functional.cross_entropy(logits.float(), input_ids[scored], reduction="none")


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Make sure that the model's logits are its output embeddings over its last hidden states, and nothing more.

    Raises:
        InputError: an architecture that scales or caps its logits, which :func:`token_log_probs` would miss.
    """
    ids = torch.arange(4, device=model.device)[None]
    out = model(input_ids=ids, output_hidden_states=True, use_cache=False)
    plain = model.get_output_embeddings()(out.hidden_states[-1])
    if not torch.allclose(plain.float(), out.logits.float(), rtol=1e-2, atol=1e-3):
        raise InputError(
            model.config.model_type,
            "this architecture scales or caps its logits, which training does not support",
            "choose another student",
        )
