"""Probe of one node of a cluster: an actor on each node that reports on it, and what the node can reach.

It is sent to the nodes by value, and imports nothing at the top but what every Python has: a node that lacks this
project, or has another version of it, answers all the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from types import ModuleType

PACKAGES = ("asr", "cluster", "train", "serve", "whisperfleet")
_GPUS = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
_DIAL_S, _APPEARS_S, _POLL_S = 5.0, 5.0, 0.2


class Probe:
    """Actor that answers for a node. A fault of the node raises nothing: the answer says it in words."""

    def __init__(self) -> None:
        self._listener: socket.socket | None = None

    def facts(self, distributions: Sequence[str]) -> dict[str, object]:
        """Return versions of Python and ``distributions`` ("" where not there), this project's code, and GPUs."""
        versions = {"python": ".".join(map(str, sys.version_info[:3]))}
        for name in distributions:
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[name] = metadata.version(name)
        return {
            "versions": versions | {name: "" for name in distributions if name not in versions},
            "code": code(),
            "gpus": gpus(),
        }

    def now(self) -> float:
        """Return the node's clock [s since 1970]."""
        return time.time()

    def disks(self, extra: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return (free, whole) bytes of the disks of Ray's files, of this project's cache and of ``extra`` folders."""
        import ray

        cache = os.environ.get("WHISPERFLEET_CACHE") or "~/.cache/whisperfleet"
        session = ray._private.worker.global_worker.node.get_session_dir_path()
        found = {}
        for folder in (session, cache, *extra):
            usage = shutil.disk_usage(_existing(Path(folder).expanduser().absolute()))
            found[str(folder)] = (usage.free, usage.total)
        return found

    def has_base(self, name: str) -> str:
        """Return "" where the node need not fetch the checkpoint called ``name``, else why it would have to."""
        from asr.models.checkpoint import missing

        return missing(name)

    def listen(self) -> tuple[str, int]:
        """Wait for others to call, at the returned address."""
        import ray

        self._listener = socket.create_server(("", 0), backlog=1024)
        return ray.util.get_node_ip_address(), self._listener.getsockname()[1]

    def dial(self, others: Mapping[str, tuple[str, int]]) -> dict[str, str]:
        """Call the nodes that listen, and return those that cannot be reached, with the reason."""
        failed = {}
        for name, (host, port) in others.items():
            try:
                socket.create_connection((host, port), timeout=_DIAL_S).close()
            except OSError as error:
                failed[name] = f"{host}:{port}: {error}"
        return failed

    def meeting_point(self) -> str:
        """Return an address of this node at which the others can meet."""
        import ray

        with socket.create_server(("", 0)) as free:
            return f"tcp://{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def all_reduce(self, backend: str, meeting: str, rank: int, count: int, timeout_s: float) -> str:
        """Add up the ranks over all nodes as training adds up gradients; return "" or what went wrong."""
        import torch
        from torch import distributed

        try:
            wait = timedelta(seconds=timeout_s)
            distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=count, timeout=wait)
            total = torch.full((1024,), float(rank), device="cuda" if backend == "nccl" else "cpu")
            distributed.all_reduce(total)
            expected = count * (count - 1) / 2
            return "" if total.eq(expected).all() else f"the sum is {total[0].item():g}, not {expected:g}"
        except (RuntimeError, ValueError) as error:
            return " ".join(str(error).split())[:200]
        finally:
            if distributed.is_initialized():
                distributed.destroy_process_group()

    def write(self, uri: str) -> str:
        """Write a file; return "" or why it cannot be written."""
        return _said(lambda storage: storage.write_text(uri, uri))

    def read(self, places: Mapping[str, str]) -> dict[str, str]:
        """Return the names of the files that cannot be read here, with the reason. A shared disk may take a moment."""

        def look(place: str) -> str:
            return _said(lambda storage: storage.read_text(place))

        failed, until = dict.fromkeys(places, ""), time.monotonic() + _APPEARS_S
        while True:
            failed = {name: look(places[name]) for name in failed}
            failed = {name: reason for name, reason in failed.items() if reason}
            if not failed or time.monotonic() > until:
                return failed
            time.sleep(_POLL_S)

    def remove(self, folder: str) -> None:
        """Delete a folder, where it is there."""

        def delete(storage: ModuleType) -> None:
            filesystem, path = storage.resolve(folder)
            filesystem.delete_dir(path)

        _said(delete)


def code() -> str:
    """Return the digest of this project's code as this Python would import it, "" where it would find none."""
    total = hashlib.sha256()
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        for folder in spec.submodule_search_locations or () if spec else ():
            for file in sorted(Path(folder).rglob("*.py")):
                total.update(f"{name}/{file.relative_to(folder).as_posix()}\0".encode() + file.read_bytes())
    return total.hexdigest()[:12] if importlib.util.find_spec(PACKAGES[0]) else ""


def gpus() -> list[tuple[str, int, str]]:
    """Return (name, memory in MiB, version of the driver) of each GPU of this machine."""
    try:
        done = subprocess.run(_GPUS, capture_output=True, text=True, check=True, timeout=15)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.strip().splitlines()]
    return [(name, int(float(memory)) if memory[:1].isdecimal() else 0, driver) for name, memory, driver in rows]


def _said(work: Callable[[ModuleType], object]) -> str:
    try:
        from asr.io import storage

        work(storage)
    except Exception as error:  # whatever it is, it is what this node has to say
        return " ".join(str(error).split())[:200] or type(error).__name__
    return ""


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)
