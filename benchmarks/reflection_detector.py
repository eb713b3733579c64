"""The local reflection detector: trained on labelled steps, and measured on others.

    python benchmarks/reflection_detector.py --train       # some 45 minutes on 2 cores; writes the adapter and the head
    python benchmarks/reflection_detector.py [--out FILE]  # measures it on the test steps

The steps are from the starter pack's teacher and from chains of the RW model, labelled by a language model under
``reflection-detector/LABELS.md``; the test steps twice, independently, and of other prompts than the training steps.
Every number of the training was chosen on a fifth of the training steps.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from sklearn.metrics import cohen_kappa_score

from saro.files import read_jsonl_objects, write_json
from saro.judges.detector import FOLDER, ReflectionDetector, encode, lower_layers, new_head, token_scores
from saro.judges.reflection import REFLECTS, Step
from saro.models import EMBEDDED, load_tokenizer
from saro.policies import load_policies
from saro.statistics import wilson

RANK, RATE, HEAD_RATE, EPOCHS, BATCH = 8, 5e-4, 1e-2, 4, 16
POOL = 8 * BATCH  # steps that are sorted by length together


def load(name: str) -> list[dict[str, Any]]:
    """Labelled steps."""
    return [row for _, row in read_jsonl_objects(FOLDER / f"{name}.jsonl")]


def train(folder: Path) -> None:
    """Train on all training steps; write the adapter and the head to ``folder``."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    order = random.Random(0)
    tokenizer = load_tokenizer(EMBEDDED)
    settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.05, target_modules="all-linear")
    model = get_peft_model(lower_layers(), settings)
    head = new_head(model)
    rows = load("train")
    chains = [encode(tokenizer, row["prompt"], [*row["before"], row["step"]]) for row in rows]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [{"params": weights, "lr": RATE}, {"params": list(head.parameters()), "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = EPOCHS * math.ceil(len(rows) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 15) * max(0.02, 1 - step / steps)
    )
    model.train()
    for epoch in range(EPOCHS):
        started, total = time.monotonic(), 0.0
        places = list(range(len(rows)))
        order.shuffle(places)
        batches: list[list[int]] = []
        for at in range(0, len(places), POOL):
            pool = sorted(places[at : at + POOL], key=lambda place: len(chains[place].token_ids))
            batches += [pool[first : first + BATCH] for first in range(0, len(pool), BATCH)]
        order.shuffle(batches)
        for batch in batches:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                scored = token_scores(model, head, [chains[place] for place in batch])
            spans = [slice(*chains[place].spans[-1]) for place in batch]
            logits = torch.stack([one[span].float().mean() for one, span in zip(scored, spans, strict=True)])
            labels = torch.tensor([float(rows[place]["reflects"]) for place in batch])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / len(batches):.3f}, {time.monotonic() - started:.0f} s", flush=True)
    model.peft_config["default"].base_model_name_or_path = EMBEDDED  # not where it lies on this machine
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # a card of PEFT's that says nothing
    save_file({name: value.detach() for name, value in head.state_dict().items()}, folder / "head.safetensors")


def measure() -> dict[str, Any]:
    """Agreement with the labels of the test steps."""
    rows = load("test")
    detector = ReflectionDetector(list(load_policies()))
    started = time.monotonic()
    found = detector.judge([Step(row["prompt"], tuple(row["before"]), row["step"]) for row in rows])
    seconds = time.monotonic() - started
    said = [verdict.label == REFLECTS for verdict in found]
    labels = [row["reflects"] for row in rows]
    result: dict[str, Any] = {
        "steps": len(rows),
        "reflect, by the labels": sum(labels),
        "kappa with the labels": round(cohen_kappa_score(said, labels), 3),
        "kappa of the two labellings": round(cohen_kappa_score(labels, [row["second"] for row in rows]), 3),
        "seconds": round(seconds, 1),
    }
    for source in sorted({row["source"] for row in rows}):
        mine = [place for place, row in enumerate(rows) if row["source"] == source]
        result[f"kappa, steps of the {source}"] = round(
            cohen_kappa_score([said[place] for place in mine], [labels[place] for place in mine]), 3
        )
    rate = wilson(sum(one == other for one, other in zip(said, labels, strict=True)), len(rows))
    assert rate is not None
    result["agreement, %, with 95 % interval"] = [round(100 * part, 1) for part in (rate.value, rate.low, rate.high)]
    return result


def main() -> None:
    """Train or measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reflection_detector.json"))
    options = parser.parse_args()
    if options.train:
        train(FOLDER)
    command = "python benchmarks/reflection_detector.py" + (" --train" if options.train else "")
    result = {"command": command, **measure()}
    write_json(options.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
