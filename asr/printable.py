"""Makes strangers' text safe to show in a message, a header or a log."""

from __future__ import annotations

LONGEST = 40  # characters of a value that is told back: enough to know one's own by
_CUT = "..."


def printable(text: str, longest: int = LONGEST, ascii_only: bool = False) -> str:
    """Return ``text`` in one line of at most ``longest`` characters that show: no controls, no change of direction.

    What does not show is ``?``; so is, with ``ascii_only``, what is no ASCII.
    """
    short = text if len(text) <= longest else text[: max(longest - len(_CUT), 0)] + _CUT
    return "".join(one if one.isprintable() and (one.isascii() or not ascii_only) else "?" for one in short)
