"""The bundled policy files (Markdown) and their loader."""

from saro.policies.loader import load_policies

__all__ = ["load_policies"]
