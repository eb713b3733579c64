"""A teacher's existing output, in the columns of other projects, as prompts and recorded replies."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saro.errors import InputError
from saro.files import read_jsonl_objects, write_jsonl
from saro.records import Prompt, Reply

PROMPT_COLUMNS = ("question", "prompt", "instruction", "text")
REPLY_COLUMNS = ("response", "output", "completion", "reply")
LABELS = ("harmful", "benign")


def convert(path: Path, out: Path, label: str = "harmful") -> tuple[Path, Path]:
    """Write the rows of ``path`` as ``prompts.jsonl`` and ``replies.jsonl`` under ``out``.

    Each row needs one of :data:`PROMPT_COLUMNS` and one of :data:`REPLY_COLUMNS`, both texts; a column ``label`` goes
    before ``label``. Other columns are left: their categories are not ours.

    Args:
        path: a JSON array or JSON lines.
        out: folder to write to.
        label: of rows that do not say theirs.

    Returns:
        The two files.

    Raises:
        InputError: naming the file, the row and the column.
    """
    prompts: dict[str, Prompt] = {}
    replies: list[Reply] = []
    samples: Counter[str] = Counter()
    for where, row in _rows(path):
        text, reply = _text(where, row, PROMPT_COLUMNS), _text(where, row, REPLY_COLUMNS)
        own = row.get("label", label)
        if own not in LABELS:
            raise InputError(where, f"label: expected harmful or benign, found {own!r}", "mend that row's label")
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        kind = "harmful" if own == "harmful" else "ordinary"
        prompt = Prompt(id=name, text=text, label=own, kind=kind, source=path.name)
        if prompts.setdefault(name, prompt).label != own:
            raise InputError(
                where, f"label: {own}, but an earlier row with this prompt says otherwise", "mend one of them"
            )
        replies.append(Reply(prompt_id=name, sample=samples[name], text=reply, engine=f"recorded:{path.name}"))
        samples[name] += 1
    if not replies:
        raise InputError(path, "holds no rows", "give a file with at least one")
    write_jsonl(out / "prompts.jsonl", prompts.values())
    write_jsonl(out / "replies.jsonl", replies)
    return out / "prompts.jsonl", out / "replies.jsonl"


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix == ".jsonl":
        yield from ((f"{path}:{number}", row) for number, row in read_jsonl_objects(path))
        return
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(path, "no such file", "check the path") from None
    except ValueError as error:
        raise InputError(path, f"not valid JSON ({error})", "give a JSON array, or JSON lines as .jsonl") from None
    if not isinstance(rows, list):
        raise InputError(path, f"a JSON {type(rows).__name__}, not an array", "give an array of objects")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(f"{path}, row {number}", "is no JSON object", "give an array of objects")
        yield f"{path}, row {number}", row


def _text(where: str, row: dict[str, Any], columns: tuple[str, ...]) -> str:
    found = next((row[name] for name in columns if name in row), None)
    if not isinstance(found, str) or not found.strip():
        raise InputError(where, f"expected a text in one of {', '.join(columns)}", "mend or rename that row's column")
    return found.encode("utf-8", "replace").decode()  # halves of surrogate pairs cannot be stored
