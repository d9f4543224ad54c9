"""SIGTERM in a process of its own, as Python's handlers are one for all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TWICE = """
import os, signal
from cluster import termination
assert not termination.installed()
termination.install()
assert termination.installed() and not termination.asked()
try:
    os.kill(os.getpid(), signal.SIGTERM)
    print("not interrupted")
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGTERM)  # a scheduler asks again: the end in good order goes on
    print("interrupted once", termination.asked())
"""

COMMAND = """
import os, signal, sys, time
from cluster import termination
import whisperfleet.__main__ as command
def app(**_):
    {body}
command.app = app
command.main()
"""


LINE = "whisperfleet: ended by SIGTERM: the same command can be given again\n"
KILL = "os.kill(os.getpid(), signal.SIGTERM)"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_sigterm_interrupts_once() -> None:
    assert run(TWICE).stdout.split("\n")[0] == "interrupted once True"


@pytest.mark.parametrize(
    "body",
    [
        f"try: {KILL}\n    except BaseException: pass\n    sys.exit(0)",  # it imports still: nobody can swallow it
        f"termination.begin(); {KILL}",
        f"termination.begin()\n    try: {KILL}\n    except KeyboardInterrupt: sys.exit(130)",  # as typer does
        f"termination.begin()\n    try: {KILL}\n    except KeyboardInterrupt: raise ImportError('no numpy')",
        "sys.exit(signal.SIGTERM)",  # what Ray's own handler does
        f"import atexit; atexit.register(lambda: {KILL})",  # it has come to its end
    ],
    ids=["importing", "working", "typer", "made into another", "ray", "at its end"],
)
def test_a_command_that_sigterm_ended_said_nothing(body: str) -> None:
    done = run(COMMAND.format(body=body))
    assert done.stderr == LINE
    assert done.returncode == 128 + signal.SIGTERM


def test_what_a_verb_says_itself_is_the_only_line() -> None:
    verb = f"""termination.begin()
    with termination.telling(lambda: "step 3"), termination.telling(lambda: "step 4"):
        {KILL}"""
    done = run(COMMAND.format(body=verb))
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "step 4\n")


def test_a_command_that_ends_in_good_order_keeps_its_exit_code() -> None:
    in_order = f"termination.begin()\n    try: {KILL}\n    except KeyboardInterrupt: sys.exit(0)"
    for body, code in ((in_order, 0), ("sys.exit(2)", 2)):
        done = run(COMMAND.format(body=body))
        assert (done.returncode, done.stderr) == (code, "")


def test_what_took_the_signal_from_python_does_not_keep_it_while_ray_starts() -> None:
    stolen = f"""termination.begin()
    with termination.guarded():
        termination._C.PyOS_setsig(signal.SIGTERM, 0)  # as Ray's C++ does, whose own is worse
        time.sleep(0.5)
        {KILL}
        time.sleep(60)"""
    done = run(COMMAND.format(body=stolen))
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, LINE)


def test_a_start_that_does_not_end_by_itself_is_ended() -> None:
    stuck = f"""termination.begin()
    termination._PATIENCE_S = 0.5
    with termination.guarded():
        signal.signal(signal.SIGTERM, lambda *_: None)  # as in C++, where Python's handlers have to wait
        {KILL}
        time.sleep(60)"""
    begun = time.monotonic()
    done = run(COMMAND.format(body=stuck))
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, LINE)
    assert time.monotonic() - begun < 30


def test_the_guard_leaves_everything_as_it_was() -> None:
    calm = """termination.install()
    before = len(os.listdir("/proc/self/fd"))
    with termination.guarded():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as ray.init does, but for the kind
    assert termination.installed() and signal.set_wakeup_fd(-1) == -1
    assert len(os.listdir("/proc/self/fd")) == before"""
    done = run(COMMAND.format(body=calm))
    assert (done.returncode, done.stderr) == (0, "")


HELPED = """import subprocess
    termination._end = {handler}
    termination.begin()
    helper = subprocess.Popen(["sleep", "{sleep_s}"])
    with helper, termination.watched(), termination.telling(lambda: "step 4"):
        {body}"""


def test_a_signal_that_reached_what_was_started_too_is_told_before_that_ends_the_process() -> None:
    """Ray's C++ ended the driver with exit code 1 and no line, 70 ms after its store had gone."""
    in_c = "lambda *_: time.sleep(60)"  # from where Python's handler is not reached in time
    done = run(COMMAND.format(body=HELPED.format(handler=in_c, sleep_s=60, body=f"helper.terminate(); {KILL}")))
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "step 4\n")


def test_a_signal_that_reached_only_the_command_is_put_in_order() -> None:
    body = f"""try: {KILL}
        except KeyboardInterrupt: time.sleep(0.2); print("in order")"""
    done = run(COMMAND.format(body=HELPED.format(handler="termination._end", sleep_s=1, body=body)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "in order\n", "")


STARTS = """termination.begin()
    from cluster.session import ray_session
    print("starts", flush=True)
    with ray_session():
        print("up", flush=True)
        time.sleep(60)"""


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [False, True], ids=["command", "group"])
@pytest.mark.parametrize("after_s", [0.5, 1.5, 2.5, 3.5])
def test_sigterm_while_ray_starts_is_one_line_and_no_list_of_addresses(after_s: float, to_all: bool) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(body=STARTS)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "starts\n"
        time.sleep(after_s)
        os.killpg(process.pid, signal.SIGTERM) if to_all else process.terminate()
        _, stderr = process.communicate(timeout=25)  # a scheduler kills after 30
    finally:
        process.kill()
    assert (process.returncode, stderr) == (128 + signal.SIGTERM, LINE)
