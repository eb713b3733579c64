"""What models behind APIs are told: Jinja files, versioned, printed by ``saro templates``."""

from saro.templates.loader import fence, render, template_files

__all__ = ["fence", "render", "template_files"]
