from hypothesis import given
from hypothesis import strategies as st

from saro.terminal import one_line, printable


@given(st.text())
def test_nothing_steers_the_terminal_and_no_character_is_lost(text):
    safe = printable(text)
    assert len(safe) == len(text)
    assert all(char.isprintable() or char == "\n" for char in safe)
    assert all(new == old or not old.isprintable() for new, old in zip(safe, text, strict=True))
    assert "\n" not in one_line(text)


def test_an_escape_sequence_becomes_plain_text():
    assert printable("a\x1b[2Jb\u202ec\nd") == "a [2Jb c\nd"
