"""The entry point: a person's mistake ends with one line and exit code 2, a bug with its traceback."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from asr.unretryable import unretryable
from cluster import termination
from whisperfleet.cli import app


def main() -> None:
    """Run the command line."""
    termination.install()
    try:
        app(prog_name="whisperfleet")
    except SystemExit as ended:
        if ended.code == signal.SIGTERM and not termination.asked():  # Ray's own handler, while Ray starts
            _terminated()
        if termination.asked() and ended.code:
            sys.exit(termination.EXIT_CODE)
        raise
    except KeyboardInterrupt:
        if termination.asked():
            _terminated()
        raise
    except Exception as error:
        mistake = unretryable(error)
        if mistake is None:
            raise
        print("\n".join(f"whisperfleet: {line}" for line in str(mistake).splitlines()), file=sys.stderr)
        sys.exit(2)


def _terminated() -> NoReturn:
    """End a command that was asked to end before it had anything to say of its own."""
    print("whisperfleet: ended by SIGTERM: the same command can be given again", file=sys.stderr)
    sys.exit(termination.EXIT_CODE)


if __name__ == "__main__":
    main()
