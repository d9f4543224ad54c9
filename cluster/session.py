"""A connection to Ray: the cluster that an address names, or a local one that ends with the block."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import ray
from ray._private.node import Node
from ray.job_config import JobConfig

from asr.errors import UserError
from cluster import scratch, termination
from cluster.project import ROOT
from cluster.ray_settings import ENVIRONMENT, LOCAL, is_late
from cluster.resources import WAITING_ACTORS

_OBJECT_STORE_BYTES = 512 * 1024**2
_ANSWER_S = 10.0
_ONE_START_S = 60.0
_NODE_S = 60.0  # that a node is waited for
_LOOK_S = 0.1
_RAY = (str(Path(ray.__file__).parent), "ray::")  # how a word in the command line of Ray's own processes begins


@contextmanager
def ray_session(address: str | None = None, settings: Mapping[str, str] | None = None) -> Iterator[None]:
    """Connect to Ray for the length of the block; a session that is already open is used and left open.

    ``address`` is ``auto``, ``host:port`` or ``ray://...``. With None a local cluster is started and stopped again,
    unless RAY_ADDRESS names one, as it does inside a submitted job. ``settings`` are environment variables for such a
    local cluster, unless the caller's environment sets them. Raises UserError where no cluster answers, or
    there is no room for the files of a local one.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    wanted = {} if address else {**LOCAL, **(settings or {})}
    own = {name: value for name, value in wanted.items() if name not in os.environ}
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        with termination.starting():
            if address:
                _connect(address)
            else:
                os.environ.update(own)
                _start_local()
        with nullcontext() if address else termination.running():
            yield
    finally:
        ray.shutdown()
        for name in own:
            os.environ.pop(name, None)


def _connect(address: str) -> None:
    try:
        knock(address)
        # a client's settings are pickled for a server, which may have other packages; its folder is no worker's either
        config = None if address.startswith("ray://") else _where_our_packages_are()
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, job_config=config)
    except (OSError, RuntimeError, ValueError, ray.exceptions.AuthenticationError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"no Ray cluster answers at '{address}': {first}", "is it up, and RAY_AUTH_MODE set alike?"
        ) from None


class _Path(list[str]):
    """Module search path of Ray's workers. The last folder is searched first: ours, whatever Ray adds."""

    def extend(self, folders: Iterable[str]) -> None:
        super().extend([*folders, str(ROOT)])


def _where_our_packages_are() -> JobConfig:
    """Return settings by which workers find our packages before a user's ``train.py`` in the working directory.

    Ray 2.60 has workers look first in the working directory of whoever connects, and has no setting against that.
    """
    config = JobConfig()
    config._py_driver_sys_path = _Path()
    return config


def knock(address: str) -> None:
    """Raise OSError where nothing listens: Ray itself tries for two minutes, and then ends the process."""
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=_ANSWER_S).close()


def _start_local() -> None:
    with scratch.room(scratch.folder()), _in_time(), _one_at_a_time(), _patience():
        others = _of_ray()
        try:
            _init()
        except Exception as error:
            if not is_late(str(error)):
                raise
            _wait_for_those_of(error)
            _end(_of_ray() - others)
            _init()  # what the processes of the first one read from disk is in memory now
    token = Path("~/.ray/auth_token").expanduser()
    if token.is_file():
        token.chmod(0o600)  # Ray writes it world-readable, and whoever reads it may run code in the cluster


def _init() -> None:
    ray.init(
        address="local",
        num_cpus=(os.cpu_count() or 1) + WAITING_ACTORS,
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        job_config=_where_our_packages_are(),
    )


def _of_ray() -> set[psutil.Process]:
    """Return what runs of Ray below this process, which may have started others: Ray keeps no list before it is up."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(word.startswith(_RAY) for word in process.cmdline()):
                found.add(process)
    return found


def _wait_for_those_of(error: Exception) -> None:
    """End the processes of a Ray that has failed to start as Ray does: Python warns of each that nobody waited for."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = frame.f_locals.get("self")
        if isinstance(node, Node):
            node.kill_all_processes(check_alive=False, wait=True)


def _end(processes: Iterable[psutil.Process]) -> None:
    ended = list(processes)
    for process in ended:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(ended, timeout=_ANSWER_S)


@contextmanager
def _patience() -> Iterator[None]:
    """Have Ray wait for its own node for a minute. Ray 2.60 gives it half of that, and has no setting for it."""
    ask = ray._private.services.get_node

    def patient(gcs_address: str, node_id: str) -> object:
        until = time.monotonic() + _NODE_S
        while True:
            try:
                return ask(gcs_address, node_id)
            except (RuntimeError, ray.exceptions.RaySystemError):  # it is not there yet, or the first process is not
                if time.monotonic() > until:
                    raise
                time.sleep(_LOOK_S)

    ray._private.services.get_node = patient
    try:
        yield
    finally:
        ray._private.services.get_node = ask


@contextmanager
def _in_time() -> Iterator[None]:
    """Start Ray in the block. Raises UserError where it does not come up."""
    try:
        yield
    except Exception as error:
        if not is_late(str(error)):
            raise
        raise UserError(
            "Ray did not start in time, twice: this machine is too busy, or one of Ray's processes has ended",
            f"try again; its logs are in {scratch.folder()}/ray/session_latest/logs",
        ) from error


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Start Ray in the block once no other command of this user does: on few cores both would take too long.

    After a minute of waiting Ray is started all the same, also if a file beside Ray's own cannot be locked.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            path = scratch.folder() / f"whisperfleet-{os.getuid()}.lock"
            lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
            stack.callback(os.close, lock)
            _wait_for(lock)
        yield


def _wait_for(lock: int) -> None:
    until = time.monotonic() + _ONE_START_S
    while time.monotonic() < until:
        with suppress(BlockingIOError):
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.1)
