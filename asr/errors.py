"""Exceptions by who must act: a person (UserError), a row of data (DataError), or a programmer (anything else)."""

from __future__ import annotations


class UserError(Exception):
    """A person must act: exit code 2 on the command line, HTTP 4xx in the endpoint.

    ``message`` says what is wrong and where in one line, ``hint`` what to do about it. Both are the exception's
    ``args``, so that the error survives pickling on its way through Ray.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class RenamedWarning(FutureWarning):
    """A key is given by the name that it had in the version before: it is read, and the next version will not."""


class DataError(Exception):
    """An unusable row: it is quarantined under ``reason`` (a stable snake_case word) and the run goes on."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line; the name of its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
