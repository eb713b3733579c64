import pytest
from hypothesis import given
from hypothesis import strategies as st

from saro.terminal import one_line, printable


@given(st.text())
def test_no_control_character_is_left_and_no_character_is_lost(text):
    safe = printable(text)
    assert len(safe) == len(text)
    assert all(char >= " " or char in "\n\t" for char in safe)
    assert not any("\x7f" <= char <= "\x9f" for char in safe)
    assert "\n" not in one_line(text)


def test_an_escape_sequence_becomes_plain_text():
    assert printable("a\x1b[2Jb\u202ec\x9bd\nd") == "a [2Jb c d\nd"


@pytest.mark.parametrize(
    "text", ["\tif x:", "می\u200cخواهم", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001fae8"]
)
def test_what_people_write_stays(text):
    assert printable(text) == text
