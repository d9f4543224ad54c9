"""An endpoint of its own behind Ray's HAProxy, with keys and an engine that transcribes nothing, to be attacked.

``python -m tests.serve.guarded FOLDER [KEY=VALUE]...`` runs it until its standard input ends, and prints its address
first.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from asr.config import resolve
from asr.inference.engine import Engine
from serve.app import running
from serve.config import ServeConfig
from tests.serve.fakes import FakeEngine
from tests.serve.made import made
from tests.serve.test_cli import gone

KEYS = {"one": "a key of the first guest", "other": "a key of the other guest", "keeper": "a key of who may do more"}
# Keys with limits, and these.
A_MINUTE, AT_ONCE = 30, 3
LIMITED = {
    "counted": ("a key for so many a minute", f"requests_per_minute: {A_MINUTE}"),
    "few": ("a key for a few at once", f"concurrency: {AT_ONCE}"),
}


@dataclass(frozen=True)
class Guarded:
    """Where it listens, its access log, and the process that runs it."""

    url: str
    log: Path
    pid: int

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        place = urlsplit(self.url)
        assert place.hostname and place.port
        return place.hostname, place.port


@contextmanager
def run_guarded(folder: Path, *settings: str, **environment: str) -> Iterator[Guarded]:
    """Run one for the length of the block, its access log in ``folder``.

    On a machine with so much to do that Ray does not come up in its minute, it is tried twice more.
    """
    with ExitStack() as stack:
        for _ in range(3):
            endpoint = stack.enter_context(_run(folder, settings, environment))
            if endpoint.url:
                break
            stack.close()
        assert endpoint.url, "it has said on standard error why it does not start"
        yield endpoint


@contextmanager
def _run(folder: Path, settings: Sequence[str], environment: dict[str, str]) -> Iterator[Guarded]:
    command = [sys.executable, "-m", "tests.serve.guarded", str(folder), *settings]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | environment,
    ) as process:
        assert process.stdout
        try:
            yield Guarded(process.stdout.readline().strip(), folder / "access.jsonl", process.pid)
        finally:
            with suppress(ProcessLookupError):  # it did not start
                os.killpg(process.pid, signal.SIGKILL)
            assert gone(process.pid), "HAProxy, or Ray, outlived a Ray that was killed"


def main() -> None:
    """Serve."""
    folder = Path(sys.argv[1])
    rows = [f"- {{name: {name}, key: {key}, admin: {name == 'keeper'}}}".lower() for name, key in KEYS.items()]
    rows += [f"- {{name: {name}, key: {key}, {limit}}}" for name, (key, limit) in LIMITED.items()]
    (folder / "keys.yaml").write_text("\n".join(rows))
    (folder / "batches").write_text("")
    places = [f"keys={folder / 'keys.yaml'}", f"access_log={folder / 'access.jsonl'}"]
    fixed = ["model=fake", "host=0.0.0.0", "port=0", "cpus_each=1", *places]
    config = resolve(ServeConfig, None, [*fixed, *sys.argv[2:]]).value

    def make_engine(config: ServeConfig) -> Engine:
        return FakeEngine(config, folder)

    with running(config, made(make_engine)) as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
