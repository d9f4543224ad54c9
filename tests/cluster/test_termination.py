"""SIGTERM in a process of its own, as Python's handlers are one for all."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from tests.processes import MARK, left_over

ROOT = Path(__file__).resolve().parents[2]

COMMAND = """
import os, signal, subprocess, sys, time
from cluster import termination
import whisperfleet.__main__ as command
def app(**_):
    {body}
command.app = app
command.main()
"""


LINE = "whisperfleet: ended by SIGTERM: the same command can be given again\n"
KILL = "os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)"  # from which it wakes
HELPER = 'subprocess.Popen(["sleep", "60"])'


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.medium
def test_sigterm_interrupts_once() -> None:
    twice = f"""termination.begin()
    assert termination.interrupts() and not termination.asked()
    try: {KILL}
    except KeyboardInterrupt:
        os.kill(os.getpid(), signal.SIGTERM)  # a scheduler asks again: the end in good order goes on
        time.sleep(0.2)
        print("interrupted once", termination.asked())"""
    done = run(COMMAND.format(body=twice))
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted once True\n", "")


@pytest.mark.parametrize(
    "body",
    [
        f"try: {KILL}\n    except BaseException: pass\n    sys.exit(0)",  # it imports still: nobody can swallow it
        f"termination.begin(); {KILL}",
        f"termination.begin()\n    try: {KILL}\n    except KeyboardInterrupt: sys.exit(130)",  # as typer does
        f"termination.begin()\n    try: {KILL}\n    except KeyboardInterrupt: raise ImportError('no numpy')",
        f"termination.begin(); signal.signal(signal.SIGTERM, signal.SIG_DFL); {KILL}",  # as somebody else wants it
        f"import atexit; atexit.register(lambda: [{KILL.replace(';', ',')}])",  # it has come to its end
    ],
    ids=["importing", "working", "typer", "made into another", "default", "at its end"],
)
def test_a_command_that_sigterm_ended_said_nothing(body: str) -> None:
    done = run(COMMAND.format(body=body))
    assert done.stderr == LINE
    assert done.returncode == 128 + signal.SIGTERM


def test_what_a_verb_says_itself_is_the_only_line() -> None:
    verb = f"""termination.begin()
    with termination.telling(lambda: " at 3"), termination.telling(lambda: " at 4"):
        {KILL}"""
    done = run(COMMAND.format(body=verb))
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "ended by SIGTERM at 4\n")


@pytest.mark.medium
def test_a_second_signal_while_the_line_of_the_first_is_said_changes_nothing() -> None:
    twice = f"""write = os.write
    def slow(*said):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
        return write(*said)
    os.write = slow
    {KILL}"""
    done = run(COMMAND.format(body=twice))
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, LINE)


@pytest.mark.medium
def test_a_wake_that_comes_just_before_the_wait_was_lost() -> None:
    """The handler was called when the wait was over: a scheduler would have killed the command before."""
    lost = """import threading
    kill, wakes = signal.pthread_kill, []
    signal.pthread_kill = lambda *which: kill(*which) if wakes else wakes.append(which)
    termination.begin()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    begun = time.monotonic()
    try: time.sleep(30)
    except KeyboardInterrupt: print(len(wakes), time.monotonic() - begun < 20)"""
    done = run(COMMAND.format(body=lost))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 True\n", "")


@pytest.mark.medium
def test_a_command_that_ends_in_good_order_keeps_its_exit_code() -> None:
    in_order = f"termination.begin()\n    try: {KILL}\n    except KeyboardInterrupt: sys.exit(0)"
    for body, code in ((in_order, 0), ("sys.exit(2)", 2)):
        done = run(COMMAND.format(body=body))
        assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.medium
def test_a_handler_that_a_verb_has_for_itself_is_called() -> None:
    """As the endpoint's, which goes on until then and ends in good order."""
    own = """import threading
    termination.begin()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert stop.wait(30)"""
    begun = time.monotonic()
    done = run(COMMAND.format(body=own))
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - begun < 20


def test_what_takes_the_signal_in_c_while_ray_starts_is_not_called() -> None:
    """Ray's C++ has a handler that prints a list of addresses and aborts; taken back after a moment, it was met."""
    stolen = """import ctypes, threading
    termination.begin()
    with termination.starting():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ctypes.CDLL(None).signal(signal.SIGTERM, ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p))
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
    time.sleep(30)"""
    done = run(COMMAND.format(body=stolen))
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, LINE)


def test_a_start_that_does_not_end_by_itself_is_ended() -> None:
    begun = time.monotonic()
    done = run(COMMAND.format(body=f"termination.begin()\n    with termination.starting(): {KILL}"))
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, LINE)
    assert time.monotonic() - begun < 20


def test_after_a_start_sigterm_interrupts_as_before_it() -> None:
    calm = f"""termination.begin()
    with termination.starting():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as ray.init does, but for the kind
    assert termination.interrupts()
    try: {KILL}
    except KeyboardInterrupt: print("interrupted")"""
    done = run(COMMAND.format(body=calm))
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_who_uses_the_parts_keeps_the_signal_for_himself() -> None:
    """In any thread: a program that calls `fit` has not given the signal away."""
    parts = """
import signal, threading
from cluster import termination
def use():
    with termination.starting(), termination.running(): print("used")
before = signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(signal.SIG_BLOCK, [])
thread = threading.Thread(target=use)
thread.start(), thread.join(), use(), termination.begin(), termination.finish()
assert before == (signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""
    done = run(parts)
    assert (done.returncode, done.stdout, done.stderr) == (0, "used\nused\n", "")


def test_a_signal_that_reached_what_was_started_too_is_told_before_that_ends_the_process() -> None:
    """Ray's C++ ended the driver with exit code 1 and no line, 70 ms after its store had gone."""
    in_c = f"""import ctypes
    termination.begin()
    helper = {HELPER}
    with termination.running(), termination.telling(lambda: " at 4"):
        helper.kill()
        os.kill(os.getpid(), signal.SIGTERM)
        until = time.monotonic() + 30
        while time.monotonic() < until: ctypes.CDLL(None).sleep(30)"""
    done = run(COMMAND.format(body=in_c))
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "ended by SIGTERM at 4\n")


@pytest.mark.medium
def test_a_signal_that_reached_only_the_command_is_put_in_order() -> None:
    body = f"""termination.begin()
    helper = {HELPER}
    try:
        with termination.running(), termination.telling(lambda: " at 4"):
            {KILL}
    except KeyboardInterrupt: print("in order", helper.poll())
    helper.kill()"""
    done = run(COMMAND.format(body=body))
    assert (done.returncode, done.stdout, done.stderr) == (0, "in order None\n", "ended by SIGTERM at 4\n")


@pytest.mark.parametrize(
    "how", ["with termination.given_to_children(): helper = {}", "helper = {}"], ids=["given", "hook"]
)
def test_what_is_started_takes_sigterm_as_it_likes(how: str) -> None:
    """It inherits what is blocked: a head that was to end waited for SIGKILL."""
    started = HELPER if "given" in how else HELPER.replace(")", ", preexec_fn=lambda: None)")  # as Ray starts its own
    body = f"""termination.begin()
    {how.format(started)}
    helper.terminate()
    print(helper.wait(timeout=20))"""
    done = run(COMMAND.format(body=body))
    assert (done.returncode, done.stdout, done.stderr) == (0, "-15\n", "")


STARTS = """termination.begin()
    from cluster.session import ray_session
    print("starts", flush=True)
    with ray_session():
        print("up", flush=True)
        time.sleep(60)"""


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(
    ("after_s", "to_all"),
    [
        (0.5, False),
        (1.5, True),
        (2.5, False),
        (3.5, True),
        *(pytest.param(*one, marks=pytest.mark.long) for one in [(0.5, True), (1.5, False), (2.5, True), (3.5, False)]),
    ],
)
def test_sigterm_while_ray_starts_is_one_line_and_no_list_of_addresses(after_s: float, to_all: bool) -> None:
    mark = uuid.uuid4().hex
    place = tempfile.mkdtemp(prefix="wf-")  # of its own, or it may wait for another start, and Ray's is what is meant
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(body=STARTS)],
        cwd=ROOT,
        env=os.environ | {MARK: mark, "RAY_TMPDIR": place},
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
    # An agent of Ray's whose raylet ended while it started looks for that for 10 s, once it has started.
    assert left_over(mark, patience_s=60.0) == []
    shutil.rmtree(place)
