from __future__ import annotations

import subprocess
import sys

import pytest

from asr.imports import lasting_imports

RUN = """
import gc
from asr.imports import end_quickly, lasting_imports, leave_out
{body}
"""


def run(body: str) -> str:
    """In a process of its own: the collector is one for all."""
    done = subprocess.run([sys.executable, "-c", RUN.format(body=body)], capture_output=True, text=True, check=True)
    return done.stdout


def test_what_is_imported_is_looked_at_never_again_and_the_rest_as_ever() -> None:
    body = """
with lasting_imports():
    assert not gc.isenabled()
    import json
assert gc.isenabled()
assert not any(one is json.__dict__ for one in gc.get_objects())
class Loop: pass
loop = Loop()
loop.itself = loop
del loop
print(gc.collect() > 0)"""
    assert run(body) == "True\n"


def test_who_has_switched_the_collector_off_finds_it_so() -> None:
    assert run("gc.disable()\nwith lasting_imports(): pass\nprint(gc.isenabled())") == "False\n"


def test_an_import_that_fails_leaves_the_collector_at_work() -> None:
    with pytest.raises(ModuleNotFoundError), lasting_imports():
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    import gc

    assert gc.isenabled()


def test_at_the_end_nothing_is_looked_for() -> None:
    body = """
class Loop:
    def __del__(self): print("collected")
loop = Loop()
loop.itself = loop
{end}
del loop, Loop"""
    assert run(body.format(end="")) == "collected\n"
    assert run(body.format(end="end_quickly()")) == ""


def test_what_is_left_out_is_not_found_unless_it_is_there() -> None:
    body = """
import importlib.util, json
leave_out("wave"), leave_out("json")
print(importlib.util.find_spec("wave"))
import json
import wave"""
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run(body)
    assert failed.value.stdout == "None\n"
    assert "import of wave halted" in failed.value.stderr
