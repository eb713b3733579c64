"""LoRA: low-rank adapters on all linear layers, through PEFT; merged into the weights when training has ended."""

import torch
from transformers import PreTrainedModel

from saro.config import TrainingConfig
from saro.models import quiet_transformers


def with_adapters(model: PreTrainedModel, config: TrainingConfig, seed: int) -> PreTrainedModel:
    """``model`` as the configuration wants it trained: all of its weights, or adapters of ``lora_rank`` alone.

    Args:
        model: float32 weights.
        config: gives ``lora_rank`` and ``lora_alpha``; without a rank the model is returned as it is.
        seed: of the adapters' first weights.
    """
    if config.lora_rank is None:
        return model
    from peft import LoraConfig, get_peft_model

    alpha = 2 * config.lora_rank if config.lora_alpha is None else config.lora_alpha
    settings = LoraConfig(
        task_type="CAUSAL_LM", r=config.lora_rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear"
    )
    torch.manual_seed(seed)
    with quiet_transformers():
        return get_peft_model(model, settings)


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """``model`` with its adapters, if it has any, merged into its weights."""
    from peft import PeftModel

    return model.merge_and_unload() if isinstance(model, PeftModel) else model
