"""The entry point: a person's mistake ends with one line and exit code 2, a bug with its traceback."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

from asr.errors import RenamedWarning
from asr.imports import end_quickly
from cluster import termination

if TYPE_CHECKING:
    from asr.errors import UserError


def main() -> None:
    """Run the command line."""
    termination.take()
    end_quickly()
    _tell_renamed_in_a_line()
    try:
        app(prog_name="whisperfleet")
    except SystemExit as ended:
        if termination.asked() and ended.code:
            termination.end()
        raise
    except BaseException as error:
        if termination.asked():  # whatever the interruption was made into on its way
            termination.end()
        if not isinstance(error, Exception) or (mistake := _mistake(error)) is None:
            raise
        print("\n".join(f"whisperfleet: {line}" for line in str(mistake).splitlines()), file=sys.stderr)
        sys.exit(2)
    finally:
        termination.finish()


def app(**settings: object) -> None:
    """Run the verbs. Their table is imported here: until SIGTERM is taken, nothing can be said of it."""
    import_module("whisperfleet.cli").app(**settings)


def _tell_renamed_in_a_line() -> None:
    """Have a key's old name shown as a line for a person, and all other warnings as they were shown."""
    otherwise = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, RenamedWarning):
            print(f"whisperfleet: {message}", file=sys.stderr)
        else:
            otherwise(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def _mistake(error: Exception) -> UserError | None:
    """Return what a person must do about an error, None for a bug."""
    found: UserError | None = import_module("asr.io.unretryable").unretryable(error)
    return found


if __name__ == "__main__":
    main()
