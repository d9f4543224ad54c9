"""Ray nodes with addresses of their own, on one machine: each in a network namespace, all on one bridge.

To Ray, and to gloo, they are machines: other IP addresses, the same ports. A node that is taken away is gone at once,
with all its processes and its cable.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cluster.ray_settings import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PORT = 6379
PATIENCE_S = 120.0
STORE_BYTES = 100_000_000


@dataclass(frozen=True)
class Node:
    """A node: its namespace, its address, and the process of its ``ray start``."""

    name: str
    address: str
    process: subprocess.Popen[bytes]


@dataclass
class Nodes:
    """A cluster whose first node is the head; ``folder`` is seen by all of them, as shared storage would be."""

    folder: Path
    bridge: str
    network: str
    environment: dict[str, str]
    nodes: list[Node] = field(default_factory=list)

    @property
    def head(self) -> Node:
        """Where drivers run."""
        return self.nodes[0]

    @property
    def address(self) -> str:
        """The address of the cluster."""
        return f"{self.head.address}:{PORT}"

    def add(self, cpus: int, resources: str = "{}") -> Node:
        """Start a node, and wait until the cluster knows it."""
        node = self._started(cpus, resources)
        self._wait(node)
        return node

    def _started(self, cpus: int, resources: str) -> Node:
        number = len(self.nodes) + 1
        name, address = f"{self.bridge}n{number}", f"{self.network}.{number + 1}"
        cable = f"{self.bridge}c{number}"
        _ip("netns", "add", name)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", cable, "master", self.bridge, "up")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", name, "link", "set", device, "up")
        _ip("-n", name, "route", "add", "default", "via", f"{self.network}.1")
        role = [f"--address={self.address}"] if self.nodes else ["--head", f"--port={PORT}"]
        role += [] if self.nodes else ["--include-dashboard=false"]
        log = (self.folder / f"{name}.log").open("wb")
        with log:
            process = subprocess.Popen(
                _inside(
                    name,
                    [
                        BIN / "ray",
                        "start",
                        *role,
                        f"--node-ip-address={address}",
                        f"--num-cpus={cpus}",
                        f"--resources={resources}",
                        f"--object-store-memory={STORE_BYTES}",
                        "--block",
                        "--disable-usage-stats",
                        f"--temp-dir={self.folder / name}",
                    ],
                ),
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
        node = Node(name, address, process)
        self.nodes.append(node)
        return node

    @property
    def present(self) -> list[Node]:
        """The nodes that were not taken away, the head first."""
        return [node for node in self.nodes if node.process.poll() is None]

    def with_workers(self, count: int, cpus: int) -> list[Node]:
        """Start nodes until there are so many beside the head; return these.

        One after the other: on two cores, of two that start at once one is over the 30 s that Ray gives it.
        """
        while len(self.present) <= count:
            self.add(cpus)
        return self.present[1:]

    def take_away(self, node: Node) -> None:
        """End a node as a power cut would: nobody is told."""
        _ip("link", "set", f"{self.bridge}c{self.nodes.index(node) + 1}", "down")
        self._end(node)

    def start(self, command: Sequence[str | Path], log: Path, node: Node | None = None) -> subprocess.Popen[bytes]:
        """Start a command on a node (the head), with this project's environment; its output goes to ``log``."""
        where = (node or self.head).name
        with log.open("wb") as output:
            return subprocess.Popen(
                _inside(where, command),
                env=self.environment | {"RAY_ADDRESS": self.address},
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                start_new_session=True,
            )

    def run(self, command: Sequence[str | Path], timeout_s: float = PATIENCE_S) -> str:
        """Run a command on the head and return what it prints; a failure shows all of it."""
        done = subprocess.run(
            _inside(self.head.name, command),
            env=self.environment,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def alive(self) -> list[str]:
        """Return the addresses of the nodes that the cluster takes for alive."""
        script = (
            f"import ray; ray.init('{self.address}', log_to_driver=False, logging_level='ERROR')\n"
            "print(*[node['NodeManagerAddress'] for node in ray.nodes() if node['Alive']])"
        )
        return self.run([sys.executable, "-c", script]).split()

    def processes(self, node: Node, title: str) -> int:
        """Return how many processes with such a title run on a node."""
        found = [Path(f"/proc/{process}/cmdline") for process in _processes(node.name)]
        return sum(path.exists() and path.read_bytes().startswith(title.encode()) for path in found)

    def _wait(self, node: Node) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            assert node.process.poll() is None, (self.folder / f"{node.name}.log").read_text()
            assert time.monotonic() < until, (self.folder / f"{node.name}.log").read_text()
            with suppress(AssertionError):
                if node.address in self.alive():
                    return
            time.sleep(0.5)

    def _end(self, node: Node) -> None:
        for process in _processes(node.name):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        node.process.wait(PATIENCE_S)

    def end(self) -> None:
        """Take everything away."""
        for node in self.nodes:
            self._end(node)
            _ip("netns", "delete", node.name)
        _ip("link", "delete", self.bridge)


def possible() -> bool:
    """Return whether this machine lets us have network namespaces."""
    if os.geteuid() or not shutil.which("ip"):
        return False
    name = f"wf{secrets.token_hex(2)}"
    done = [subprocess.run(["ip", "netns", verb, name], capture_output=True, check=False) for verb in ("add", "delete")]
    return all(one.returncode == 0 for one in done)


@contextmanager
def nodes(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Nodes]:
    """Yield a cluster without nodes yet. ``settings`` are environment variables of every process in it."""
    bridge = f"wf{secrets.token_hex(2)}"
    network = f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}"
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    environment = (
        own
        | ENVIRONMENT
        | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
            "RAY_health_check_initial_delay_ms": "1000",
            "RAY_health_check_timeout_ms": "1000",
            "RAY_worker_niceness": "0",
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
            "GLOO_SOCKET_IFNAME": "eth0",  # gloo would take the host name's address, which is 127.0.0.1 in all of them
            "PATH": f"{BIN}{os.pathsep}{own.get('PATH', '')}",
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        | dict(settings or {})
    )
    _ip("link", "add", bridge, "type", "bridge")
    cluster = Nodes(folder, bridge, network, environment)
    try:
        _ip("address", "add", f"{network}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        yield cluster
    finally:
        cluster.end()


def _inside(name: str, command: Sequence[str | Path]) -> list[str]:
    return ["ip", "netns", "exec", name, *map(str, command)]


def _processes(name: str) -> list[int]:
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout
    return [int(pid) for pid in found.split()]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
