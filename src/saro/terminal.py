"""Text from models and data, made safe to print: what they write is hostile, and could steer a terminal."""

import unicodedata

_KEPT = "\n\t"
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they reorder what is shown


def printable(text: str) -> str:
    """``text`` with a space for what steers a terminal: control characters, halves of pairs, and marks of direction.

    Line feeds, tabs, joiners (of Persian, of emoji) and characters that are new to this Python stay; as many characters
    come out as go in.
    """
    return "".join(" " if _steers(char) else char for char in text)


def _steers(char: str) -> bool:
    return (unicodedata.category(char) in ("Cc", "Cs") and char not in _KEPT) or char in _TURNING


def one_line(text: str) -> str:
    """``text`` as :func:`printable` has it, in one line."""
    return printable(" ".join(text.split()))
