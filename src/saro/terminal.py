"""Text from models and data, made safe to print: what they write is hostile, and could steer a terminal."""


def printable(text: str) -> str:
    """``text`` with a space for every control or formatting character but the line feed; as many characters."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def one_line(text: str) -> str:
    """``text`` as :func:`printable` has it, in one line."""
    return printable(" ".join(text.split()))
