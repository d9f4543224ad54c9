"""Runs a module (``python -P confined_start.py MODULE ARGUMENTS``) for which ``asr`` is the folder above, no other.

A user's ``asr.py`` may lie anywhere on the path: in the working directory, beside a script, or in PYTHONPATH. This file
is run by its path, so that nothing is looked for before.
"""

from __future__ import annotations

import os
import runpy
import sys
from importlib.util import module_from_spec, spec_from_file_location


def take(name: str, folder: str) -> None:
    """Import the package of a folder under a name, before anything can look for that name."""
    spec = spec_from_file_location(name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder])
    assert spec and spec.loader
    sys.modules[name] = package = module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    take("asr", os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
