"""Log-probs of chosen tokens, with the LM head applied only where one is predicted."""

import torch
from torch.nn import functional
from transformers import PreTrainedModel


def token_log_probs(
    model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, scored: torch.Tensor
) -> torch.Tensor:
    """Log-prob of every scored token given what stands before it in its row.

    Hidden states go through the LM head only at the positions that predict a scored token: with a large vocabulary the
    head is a good part of a small model's cost and most of its memory.

    Args:
        model: a causal LM with a decoder and output embeddings.
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
