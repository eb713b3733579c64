"""Policies from a folder of Markdown files with YAML front matter."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from saro.errors import InputError
from saro.files import validation_problem
from saro.records import Policy

BUNDLED = Path(__file__).parent
_KEYS = "id, title, category, objective"


def load_policies(folder: Path | None = None) -> dict[str, Policy]:
    """Read every ``*.md`` of ``folder`` (default: the bundled ones), by id.

    Raises:
        InputError: no such folder, no policy in it, malformed front matter, an id given twice.
    """
    folder = folder or BUNDLED
    if not folder.is_dir():
        raise InputError(folder, "no such folder of policies", "name a folder of Markdown files, one a policy")
    policies: dict[str, Policy] = {}
    for file in sorted(folder.glob("*.md")):
        policy = _read(file)
        if policy.id in policies:
            raise InputError(file, f"id {policy.id!r} is taken by another file", "give each policy an id of its own")
        policies[policy.id] = policy
    if not policies:
        raise InputError(folder, "no *.md policy in it", "add at least one policy file")
    return policies


def _read(file: Path) -> Policy:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(file, f"not UTF-8 text ({error.reason})", "save the file as UTF-8") from None
    head, begun, rest = text.partition("---\n")
    front, ended, body = rest.partition("\n---\n")
    if head.strip() or not begun or not ended:
        raise InputError(file, "no front matter", f"begin with a line ---, the keys {_KEYS}, and a line ---")
    try:
        keys = yaml.safe_load(front)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(file, f"front matter is not YAML ({error})", f"write the keys {_KEYS}") from None
    if not isinstance(keys, dict):
        raise InputError(file, "front matter is no mapping", f"write the keys {_KEYS}")
    try:
        return Policy.model_validate({**keys, "text": body.strip()})
    except ValidationError as error:
        raise InputError(file, validation_problem(error), f"a policy has the keys {_KEYS} and a text") from None
