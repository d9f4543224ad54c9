"""The entry point: a person's mistake ends with one line and exit code 2, a bug with its traceback."""

from __future__ import annotations

import sys

from asr.unretryable import unretryable
from cluster import termination
from whisperfleet.cli import app


def main() -> None:
    """Run the command line."""
    termination.install()
    try:
        app(prog_name="whisperfleet")
    except SystemExit as ended:
        if termination.asked() and ended.code:
            sys.exit(termination.EXIT_CODE)
        raise
    except KeyboardInterrupt:
        if termination.asked():
            sys.exit(termination.EXIT_CODE)
        raise
    except Exception as error:
        mistake = unretryable(error)
        if mistake is None:
            raise
        print("\n".join(f"whisperfleet: {line}" for line in str(mistake).splitlines()), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
