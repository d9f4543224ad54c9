from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from asr.printable import LONGEST, printable


@given(st.text(max_size=80), st.integers(3, 60))
def test_whatever_was_written_is_one_short_line_that_shows(text: str, longest: int) -> None:
    shown = printable(text, longest)
    assert len(shown) <= longest and shown.isprintable()
    assert printable(text, longest, ascii_only=True).isascii()
    json.dumps(shown, ensure_ascii=False).encode()


def test_what_shows_stays() -> None:
    assert printable("itallian") == "itallian"
    assert printable("ދިވެހި, 日本語") == "ދިވެހި, 日本語"
    assert printable("日本", ascii_only=True) == "??"


def test_a_line_of_its_own_a_terminal_s_command_and_half_a_character_do_not() -> None:
    assert printable("a\r\nSet-Cookie: b\x1b[2J\x9b\u202e\ud800\u2028") == "a??Set-Cookie: b?[2J????"
    assert printable("x" * 1_000_000) == "x" * (LONGEST - 3) + "..."
