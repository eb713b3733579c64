"""RIT-D in the forms that other trainers read, with a data-set card."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import saro
from saro import chains
from saro.files import atomic_write, read_json, read_jsonl, write_jsonl
from saro.stages.synthesize import Demonstration


def export(ritd: Path, out: Path) -> dict[str, object]:
    """Write RIT-D as ``messages`` and as ``prompt_completion``, each as JSONL and Parquet, and a card.

    ``messages`` carries the reasoning as ``reasoning_content``, for chat templates that render it;
    ``prompt_completion`` carries it in the text, in tags, for any template.

    Args:
        ritd: from ``synthesize``.
        out: folder to write to.

    Returns:
        The numbers of rows and files. What ``summary.json`` beside ``ritd`` says of yield and cost goes into the card.

    Raises:
        InputError: the file is absent or a row of it malformed.
    """
    from datasets import Dataset

    demonstrations = list(read_jsonl(ritd, Demonstration))
    for name, form in (("messages", _messages), ("prompt_completion", _prompt_completion)):
        rows = [{**form(row), **_provenance(row)} for row in demonstrations]
        write_jsonl(out / f"{name}.jsonl", rows)
        temporary = out / f".{name}.parquet.part"
        Dataset.from_list(rows).to_parquet(temporary)
        temporary.replace(out / f"{name}.parquet")
    summary = ritd.with_name("summary.json")
    with atomic_write(out / "README.md") as card:
        card.write(_card(demonstrations, read_json(summary) if summary.is_file() else {}))
    return {"rows": len(demonstrations), "files": 5}


def _messages(row: Demonstration) -> dict[str, Any]:
    reply = {
        "role": "assistant",
        "content": row.chain.answer,
        "reasoning_content": "\n\n".join(row.chain.steps),
    }
    return {"messages": [{"role": "user", "content": row.prompt.text}, reply]}


def _prompt_completion(row: Demonstration) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": row.prompt.text}],
        "completion": [{"role": "assistant", "content": chains.render(row.chain)}],
    }


def _provenance(row: Demonstration) -> dict[str, Any]:
    prompt = row.prompt
    return {
        "id": prompt.id,
        "label": prompt.label,
        "kind": prompt.kind,
        "category": prompt.category,
        "source": prompt.source,
        "teacher": row.teacher,
        "grades": row.grades.model_dump() if row.grades else None,
    }


def _card(rows: list[Demonstration], summary: Mapping[str, Any]) -> str:
    teachers = ", ".join(sorted({row.teacher for row in rows}))
    lines = [
        "# RIT-D",
        "",
        f"{len(rows):,} prompts answered with safety reasoning by {teachers}, made by SaRO {saro.__version__}.",
        "`messages.*` carries the reasoning as `reasoning_content`, `prompt_completion.*` in `<think>` tags.",
        "The terms of the teacher's provider may limit what may be trained on its replies: say which hold.",
        "",
        *_counts("kind", Counter(row.prompt.kind for row in rows)),
        *_counts("policy", Counter(row.prompt.category for row in rows)),
    ]
    words = sum(len(" ".join(row.chain.steps).split()) for row in rows) / max(1, len(rows))
    lines += [f"A chain reasons in {words:.0f} words in the mean.", ""]
    if summary:
        lines += [f"{len(rows):,} replies were kept for {summary.get('prompts', '?')} prompts. Set aside:", ""]
        lines += _counts("reason", Counter(summary.get("rejected", {})))
    if spending := summary.get("spending"):
        lines += [f"- {key}: {value}" for key, value in spending.items()]
    return "\n".join(lines) + "\n"


def _counts(head: str, counts: Mapping[str, int]) -> list[str]:
    rows = [f"| {name} | {count:,} |" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return [f"| {head} | rows |", "|---|---|", *rows, ""]
