"""API key of an admin: from a file or the environment, never from the command line.

Every process on a machine may read what the others were called with; an environment is for its own user only.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from asr.errors import UserError

KEY = "WHISPERFLEET_KEY"
HELP = f"Holds an API key with admin: true (- is standard input); default: {KEY} in the environment."


def read(file: str) -> str:
    """Return the key in a file, or that of the environment where none is named; "" for none. Raises UserError."""
    if not file:
        return os.environ.get(KEY, "")
    try:
        text = sys.stdin.read() if file == "-" else Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--key-file {file}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    lines = text.split()
    if len(lines) != 1:
        raise UserError(f"--key-file {file}: it holds {'no key' if not lines else 'more than one key'}")
    return lines[0]


def refuse(typed: str | None) -> None:
    """Raise UserError where a key stands on the command line."""
    if typed is not None:
        raise UserError(
            "--key: a key on the command line can be read by everybody on this machine, and in the shell's history",
            f"export {KEY}, or --key-file FILE (- is standard input); replace a key that others may have seen",
        )
