"""Task of one side of the comparison, and how that side reports to the benchmark."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from asr.parsed import JsonObject

MARK = "@@ "  # of the lines that are meant for the benchmark: transformers prints its own


@dataclass(frozen=True)
class Work:
    """A side's task. Both sides train from the same manifests with these settings, each in a process of its own."""

    base: str
    language: str
    strategy: str
    """``lora`` or ``full``."""
    learning_rate: float
    steps: int
    warmup_steps: int
    save_every_steps: int
    """Between checkpoints, each of which is evaluated on the validation split."""
    clips_per_step: int
    seed: int
    manifests: dict[str, str]
    """Of ``train``, ``validation`` and ``test``."""
    folder: str
    """Folder for everything that the side writes."""
    lora: JsonObject
    """The fields of ``LoraSettings``."""
    pauses: tuple[int, ...] = ()
    """Steps before which the recipe waits for the benchmark's word, while we train."""
    gradient_checkpointing: bool = False
    probe: bool = False
    """Run only steps: no checkpoint, no evaluation."""
    settings: tuple[str, ...] = ()
    """``key=value`` words on top, for our side."""

    def write(self) -> Path:
        """Write the task into its folder, for a process that is started with the file's name."""
        path = Path(self.folder) / "work.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Work:
        """Read what ``write`` wrote."""
        work = json.loads(path.read_text(encoding="utf-8"))
        return cls(**work | {name: tuple(work[name]) for name in ("pauses", "settings")})


def say(event: str, **details: object) -> None:
    """Tell the benchmark of an event."""
    sys.stdout.write(MARK + json.dumps({"event": event, **details}) + "\n")
    sys.stdout.flush()


def wait_for_word() -> None:
    """Stand still until the benchmark writes a line."""
    say("paused")
    if not sys.stdin.readline():
        raise SystemExit("the benchmark is gone")


class Clock:
    """Seconds since this process was started, without those in which it stood still or was evaluated."""

    def __init__(self) -> None:
        self._stopped_s = 0.0
        self._started = time.monotonic() - (time.time() - psutil.Process().create_time())

    @property
    def seconds(self) -> float:
        """Seconds on the clock."""
        return float(time.monotonic() - self._started - self._stopped_s)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock for the length of the block."""
        since = time.monotonic()
        try:
            yield
        finally:
            self._stopped_s += time.monotonic() - since
