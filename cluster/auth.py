"""Token of a cluster: read from where Ray reads it, made if there is none, and never printed."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from asr.errors import UserError

MODE, VALUE, FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
REMEDY = f"put the cluster's token into ~/.ray/auth_token, or the path of its file into {FILE}"


def token_file() -> Path:
    """Return the file that Ray reads the token from. It need not be there."""
    return Path(os.environ.get(FILE) or "~/.ray/auth_token").expanduser()


def token() -> str | None:
    """Return the token of this machine's user, None where there is none or RAY_AUTH_MODE=disabled.

    Ray's own clients send it only where RAY_AUTH_MODE is set, and its clusters ask for it also where it is not: here,
    a token that is there is sent. Raises UserError where RAY_AUTH_TOKEN_PATH names no readable file.
    """
    if os.environ.get(MODE, "").lower() == "disabled":
        return None
    if given := os.environ.get(VALUE, "").strip():
        return given
    try:
        return token_file().read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        if os.environ.get(FILE):
            raise UserError(f"{FILE}={token_file()}: no such file", REMEDY) from None
        return None
    except OSError as error:
        raise UserError(f"{token_file()}: the token cannot be read: {error.strerror}", REMEDY) from None


def headers() -> dict[str, str]:
    """Return what a request to a cluster's dashboard carries."""
    found = token()
    return {"Authorization": f"Bearer {found}"} if found else {}


def ensure_token() -> None:
    """Write a new token where there is none; only its owner can read it: who has it may run code in the cluster."""
    path = token_file()
    if os.environ.get(VALUE, "").strip():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        path.chmod(0o600)  # Ray itself writes it world-readable
        return
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32))
