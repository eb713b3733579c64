"""Rendering the templates of this folder."""

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent


def template_files() -> list[Path]:
    """The templates' files, by name."""
    return sorted(FOLDER.glob("*.j2"))


def render(name: str, **values: Any) -> str:
    """The text of template ``name`` (without ``.j2``); a value that it needs and does not get is an error."""
    return _environment().get_template(f"{name}.j2").render(**values).strip()


def fence(text: str) -> str:
    """``text`` between marks that it cannot hold: they carry its own hash."""
    mark = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"<data {mark}>\n{text}\n</data {mark}>"


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701  plain text for a model, not HTML
    )
