"""Sessions are started in processes of their own: the test run itself holds one open."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from pathlib import Path

import psutil
import pytest
import ray

import cluster.session
from asr.errors import UserError
from cluster.session import knock, ray_session
from tests.litter import litter
from tests.processes import MARK, left_over
from tests.speed import WAIT_S


def run(script: str, tmp_path: Path) -> tuple[str, list[psutil.Process]]:
    """Return what a script printed in a process with a home of its own, and the processes that it left behind."""
    mark = uuid.uuid4().hex
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment | {"HOME": str(tmp_path), MARK: mark},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, left_over(mark)


@pytest.mark.slow
@pytest.mark.ray
def test_ray_s_workers_imported_a_train_py_of_the_working_directory(tmp_path: Path) -> None:
    """``No module named 'train.run'``: Ray has them look there first."""
    printed, left = run(
        f"""
        import os
        import whisperfleet
        import ray
        from cluster.session import ray_session
        os.chdir({str(litter(tmp_path))!r})

        @ray.remote
        def found():
            import asr.errors, cluster.resources, serve.config, train.config
            return [module.__file__ for module in (asr, cluster, serve, train)]

        with ray_session():
            print(*ray.get(found.remote()), sep="\\n")
        """,
        tmp_path,
    )
    root = Path(cluster.session.__file__).resolve().parents[1]
    assert [Path(line) for line in printed.splitlines()] == [
        root / name / "__init__.py" for name in ("asr", "cluster", "serve", "train")
    ]
    assert not left


@pytest.mark.slow
@pytest.mark.ray
def test_a_local_cluster_lasts_as_long_as_the_block_and_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    printed, left = run(
        """
        import os, ray
        from cluster.session import ray_session
        assert not ray.is_initialized()
        with ray_session():
            with ray_session():
                outer = ray.get_runtime_context().get_node_id()
            print("inner left it open:", ray.is_initialized())
            print("cores to spare:", ray.cluster_resources()["CPU"] > os.cpu_count())
            print(ray.get(ray.remote(lambda: "work was done").remote()))
        print("open after the block:", ray.is_initialized())
        try:
            with ray_session():
                raise KeyError("in the block")
        except KeyError:
            print("open after an error:", ray.is_initialized())
        """,
        tmp_path,
    )
    assert printed.splitlines() == [
        "inner left it open: True",
        "cores to spare: True",
        "work was done",
        "open after the block: False",
        "open after an error: False",
    ]
    assert left == []
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600  # whoever reads it may run code in the cluster


@pytest.mark.slow
@pytest.mark.ray
def test_ctrl_c_in_a_program_of_a_users_own_stops_everything(tmp_path: Path) -> None:
    """It reaches the whole process group, Ray's processes too."""
    mark = uuid.uuid4().hex
    script = """
        import time
        from cluster.session import ray_session
        with ray_session():
            print("up", flush=True)
            while True:  # a signal that comes just before a long sleep is noticed after it
                time.sleep(0.1)
        """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT, stderr
    assert stderr.strip().endswith("KeyboardInterrupt")
    assert left_over(mark) == []


@pytest.mark.slow
def test_a_wrong_address_is_a_persons_mistake_within_seconds(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens on it
        port = unused.getsockname()[1]
        printed, left = run(
            f"""
            import os, time
            from asr.errors import UserError
            from cluster.session import ray_session
            started = time.monotonic()
            for address in ("127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nonsense", "host:99999999"):
                try:
                    with ray_session(address):
                        print("connected")
                except UserError as error:
                    print(str(error).split(": ")[0])
            os.environ["RAY_ADDRESS"] = "127.0.0.1:{port}"
            try:
                with ray_session():
                    print("connected")
            except UserError as error:
                print(error.hint)
            print(time.monotonic() - started < 60)
            """,
            tmp_path,
        )
    assert printed.splitlines() == [
        f"no Ray cluster answers at '127.0.0.1:{port}'",
        f"no Ray cluster answers at 'ray://127.0.0.1:{port}'",
        "no Ray cluster answers at 'nonsense'",
        "no Ray cluster answers at 'host:99999999'",
        "is it up, and RAY_AUTH_MODE set alike?",
        "True",
    ]
    assert left == []


@pytest.mark.usefixtures("ray_cluster")
def test_an_open_session_is_used_whatever_the_address() -> None:
    node = ray.get_runtime_context().get_node_id()
    with ray_session("nonsense"):
        assert ray.get_runtime_context().get_node_id() == node
    assert ray.is_initialized()


def test_knocking() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        knock(f"127.0.0.1:{server.getsockname()[1]}")
        knock(f"ray://127.0.0.1:{server.getsockname()[1]}")
    for where in ("auto", "local", "cluster-head"):
        knock(where)  # no port: Ray knows better
    with pytest.raises(OSError):
        knock("127.0.0.1:1")


@pytest.mark.medium
def test_two_commands_that_started_ray_at_once_on_few_cores_both_took_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray gives itself half a minute. The second waits until the first has started, but not for ever."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    entered = threading.Event()

    def second() -> None:
        with cluster.session._one_at_a_time():
            entered.set()

    with cluster.session._one_at_a_time():
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not entered.wait(0.3)
    waiting.join(WAIT_S)
    assert entered.is_set()
    monkeypatch.setattr(cluster.session, "_ONE_START_S", 0.3)
    with cluster.session._one_at_a_time(), cluster.session._one_at_a_time():
        pass


def test_where_no_file_can_be_locked_ray_starts_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "none"))
    with cluster.session._one_at_a_time():
        pass

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(cluster.session.fcntl, "flock", no_locks)
    with cluster.session._one_at_a_time():
        pass


@pytest.mark.parametrize(
    "said",
    [
        "The current node timed out during startup. This could happen because some of the raylet failed to startup",
        "Timed out waiting for file /tmp/ray/session_x/gcs_server_port_y",
        "System error: Failed to connect to GCS. Please check if the GCS server is running and if this node can",
    ],
)
def test_a_ray_that_does_not_start_in_time_was_a_traceback(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**_: object) -> None:
        raise Exception(said)

    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(
        UserError, match=r"Ray did not start in time, twice: .* \(try again; its logs are in /\S+/logs\)"
    ):
        cluster.session._start_local()


@pytest.mark.parametrize("said", [RuntimeError("no such node"), ray.exceptions.RaySystemError("no GCS yet")])
def test_a_node_is_waited_for_as_long_as_a_busy_machine_needs(said: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gave up after half a minute."""
    asked: list[float] = []

    def late(gcs_address: str, node_id: str) -> dict[str, str]:
        asked.append(time.monotonic())
        if len(asked) < 4:
            raise said
        return {"node_id": node_id}

    monkeypatch.setattr(ray._private.services, "get_node", late)
    with cluster.session._patience():
        assert ray._private.services.get_node("gcs", "n") == {"node_id": "n"}
    assert ray._private.services.get_node is late and asked[-1] - asked[0] > 0.2
    monkeypatch.setattr(cluster.session, "_NODE_S", 0.0)
    asked.clear()
    with cluster.session._patience(), pytest.raises(type(said)):
        ray._private.services.get_node("gcs", "n")


@pytest.mark.slow
@pytest.mark.ray
def test_a_busy_machine_on_which_ray_started_late_ended_a_command(tmp_path: Path) -> None:
    """It starts again, and nothing is left of the first one; a process of the user's own is no part of it.

    Python complained of each process of the first one: nobody had waited for its end.
    """
    printed, left = run(
        """
        import gc, subprocess, sys, warnings
        import psutil
        import ray._private.services as services
        from cluster.session import ray_session

        starts, get_node = [], services.get_node

        def late(*arguments):
            starts.append(arguments)
            if len(starts) == 1:
                starts.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]))
                raise Exception("The current node timed out during startup.")
            return get_node(*arguments)

        services.get_node = late
        sys.stderr = sys.stdout
        warnings.filterwarnings("always", "subprocess", ResourceWarning)
        with ray_session():
            gc.collect()
            names = [one.name() for one in psutil.Process().children(recursive=True)]
            print(len(starts) > 2, names.count("raylet"), names.count("gcs_server"), starts[1].poll())
        starts[1].kill()
        starts[1].wait()
        """,
        tmp_path,
    )
    assert printed.split() == ["True", "1", "1", "None"]
    assert left == []
