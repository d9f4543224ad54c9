"""The entry point: a person's mistake ends with one line and exit code 2, a bug with its traceback."""

from __future__ import annotations

import sys

from asr.errors import UserError
from whisperfleet.cli import app


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="whisperfleet")
    except UserError as error:
        print("\n".join(f"whisperfleet: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
