"""Former name of ``serve.builder``, for Serve config files of the version before; it goes with the next one."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from asr.errors import RenamedWarning
from serve import builder

if TYPE_CHECKING:
    import ray.serve

    from asr.parsed import JsonObject


def application(args: JsonObject) -> ray.serve.Application:
    """Return ``serve.builder.application(args)``, and warn of the name. Raises UserError as that."""
    line = "import_path: serve.deployed:application is now called serve.builder:application"
    warnings.warn(f"{line}; the old name goes with the next version", RenamedWarning, stacklevel=2)
    return builder.application(args)
