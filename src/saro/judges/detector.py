"""The local reflection detector: a low-rank adapter of the embedded student's lower layers, and a linear head.

It reads a chain once, from the prompt on, and scores each step by the mean over its tokens of a linear function of
their hidden states. A step that names a policy reflects in any case. benchmarks/reflection_detector.py trains it
and measures how well it agrees with labels that it has not seen.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from saro.errors import InputError
from saro.judges.reflection import NONE, REFLECTS, Step, named_policy
from saro.models import EMBEDDED, load_tokenizer, quiet_transformers, resolve
from saro.records import Reflection

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FOLDER = Path(__file__).parent / "reflection-detector"
JUDGE = "reflection-detector-1"
LAYERS = 20  # of the student's 30; fewer take less time, and more did not read better
_LONGEST = 1024  # tokens of a chain that are read
_BATCH = 16


class ReflectionDetector:
    """Says of steps whether they reflect, without any other model.

    Args:
        policies: ids of the policies that a step may name.
        device: torch device.
        folder: of the adapter and the head.

    Raises:
        InputError: there are no weights in the folder.
    """

    def __init__(self, policies: Sequence[str], device: str = "cpu", folder: Path = FOLDER) -> None:
        if not (folder / "head.safetensors").is_file():
            raise InputError(
                folder,
                "holds no weights of the reflection detector",
                "train them: python benchmarks/reflection_detector.py --train",
            )
        self._policies, self._device, self._folder = policies, device, folder

    def judge(self, steps: Sequence[Step]) -> list[Reflection]:
        """A verdict for each step, in order.

        ``score`` is the logit of the head. The evidence is the policy that the step names, or else the sentence that
        scores highest. A step without a word, or behind the 1024th token of its chain, is unscored. Steps of one chain
        are read together.
        """
        import torch

        found: dict[tuple[str, ...], Reflection] = {}
        paths = [(step.prompt, *step.before, step.text) for step in steps]
        chains = [encode(self._tokenizer, path[0], path[1:]) for path in _longest(paths)]
        chains.sort(key=lambda chain: len(chain.token_ids))
        with torch.inference_mode():
            for start in range(0, len(chains), _BATCH):
                batch = chains[start : start + _BATCH]
                for chain, scores in zip(batch, token_scores(self._model, self._head, batch), strict=True):
                    for place, (first, last) in enumerate(chain.spans):
                        path = chain.path[: place + 2]
                        if path not in found:
                            found[path] = self._verdict(path[-1], scores[first:last])
        return [found[path] for path in paths]

    def _verdict(self, text: str, scores: "torch.Tensor") -> Reflection:
        if not len(scores):
            return Reflection(judge=JUDGE, unscored="no words in it, or behind what is read of a chain")
        score = float(scores.mean())
        if named := named_policy(text, self._policies):
            policy, span = named
            return Reflection(judge=JUDGE, label=REFLECTS, score=score, evidence=span, policy=policy)
        if score <= 0:
            return Reflection(judge=JUDGE, label=NONE, score=score)
        return Reflection(judge=JUDGE, label=REFLECTS, score=score, evidence=self._best_sentence(text, scores))

    def _best_sentence(self, text: str, scores: "torch.Tensor") -> tuple[int, int]:
        """Characters of the sentence whose tokens score highest in the mean."""
        spans = [match.span() for match in re.finditer(r"\S.*?(?:[.!?;:](?=\s)|$)", text, re.DOTALL)]
        offsets = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]

        def mean(span: tuple[int, int]) -> float:
            values = [
                float(one) for one, (start, _) in zip(scores, offsets, strict=False) if span[0] <= start < span[1]
            ]
            return sum(values) / len(values) if values else float("-inf")

        return max(spans, key=mean)

    @cached_property
    def _tokenizer(self) -> "PreTrainedTokenizerBase":
        return load_tokenizer(EMBEDDED)

    @cached_property
    def _model(self) -> "PreTrainedModel":
        from peft import PeftModel

        with quiet_transformers():
            model = PeftModel.from_pretrained(lower_layers(), str(self._folder)).merge_and_unload()
        return model.to(self._device).eval()

    @cached_property
    def _head(self) -> "torch.nn.Linear":
        from safetensors.torch import load_file

        head = new_head(self._model)
        head.load_state_dict(load_file(self._folder / "head.safetensors"))
        return head.to(self._device)


def lower_layers() -> "PreTrainedModel":
    """The embedded student's embedding and its first layers, in float32."""
    import torch
    from transformers import AutoModel

    with quiet_transformers():
        model = AutoModel.from_pretrained(
            resolve(EMBEDDED), dtype=torch.float32, trust_remote_code=False, num_hidden_layers=LAYERS
        )
    model.config.use_cache = False
    return model


def new_head(model: "PreTrainedModel") -> "torch.nn.Linear":
    """A linear function of the hidden states that is zero."""
    import torch

    head = torch.nn.Linear(model.config.hidden_size, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head


@dataclass(frozen=True)
class Encoded:
    """A chain as it is read: its prompt and steps, their token ids, and from where to where each step stands."""

    path: tuple[str, ...]
    token_ids: list[int]
    spans: list[tuple[int, int]]


def encode(tokenizer: "PreTrainedTokenizerBase", prompt: str, steps: Sequence[str]) -> Encoded:
    """A prompt and the steps of a chain, each ended by a blank line; cut after the longest that is read."""

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    blank = ids("\n\n")
    whole = ids(f"The user asks: {prompt}") + blank
    spans = []
    for step in steps:
        own = ids(step)
        spans.append((min(len(whole), _LONGEST), min(len(whole) + len(own), _LONGEST)))
        whole += own + blank
    return Encoded((prompt, *steps), whole[: min(spans[-1][1], _LONGEST)], spans)


def token_scores(model: "PreTrainedModel", head: "torch.nn.Linear", chains: Sequence[Encoded]) -> "list[torch.Tensor]":
    """For each chain the scores of its tokens, (tokens,); the mean over a step is the step's logit."""
    import torch

    longest = -(-max(len(chain.token_ids) for chain in chains) // 16) * 16  # few shapes
    ids = torch.zeros(len(chains), longest, dtype=torch.long, device=head.weight.device)
    mask = torch.zeros_like(ids)
    for row, chain in enumerate(chains):
        ids[row, : len(chain.token_ids)] = torch.tensor(chain.token_ids)
        mask[row, : len(chain.token_ids)] = 1
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    scores = head(hidden.float())[..., 0]
    return [scores[row, : len(chain.token_ids)] for row, chain in enumerate(chains)]


def _longest(paths: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Those that no other one goes on from."""
    ordered = sorted(set(paths))
    return [one for one, after in zip(ordered, [*ordered[1:], ()], strict=True) if after[: len(one)] != one]
