"""Progress of a run over many recordings, as shown on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

# Without a terminal (a log file, CI) one line in so many seconds.
LINE_EVERY_S = 15.0

_WIDTH = 30


@dataclass(frozen=True)
class Done:
    """Recordings ended (failed ones too) and in all, audio decoded and time taken in seconds, and share of the work.

    The share goes by the bytes of the files, of long ones by their windows.
    """

    files: int
    of: int
    failed: int
    audio_s: float
    seconds: float
    share: float

    @property
    def audio_per_s(self) -> float:
        """Seconds of audio decoded in a second."""
        return self.audio_s / self.seconds if self.seconds else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes at this speed; None where nothing tells."""
        return self.seconds * (1.0 / self.share - 1.0) if self.share and self.audio_s else None

    def __str__(self) -> str:
        """Return one line: files, audio, speed, time left."""
        failed = f", {self.failed} failed" if self.failed else ""
        left = "" if self.left_s is None else f", {timedelta(seconds=round(self.left_s))} left"
        speed = f"{self.audio_per_s:.1f} audio s/s" if self.audio_s else "loading the model"
        return f"{self.files} of {self.of} files{failed}, {self.audio_s / 3600.0:.2f} h of audio, {speed}{left}"


@contextmanager
def shown() -> Iterator[Callable[[Done], None]]:
    """Yield a function that shows how far a run is: a bar on a terminal, else a line now and then."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = BarColumn(bar_width=_WIDTH), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting Ray", total=1.0)
        yield lambda done: bar.update(task, completed=done.share, description=str(done))


def _lines(console: Console) -> Callable[[Done], None]:
    last = time.monotonic()

    def show(done: Done) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            last = now
            console.print(str(done), markup=False, soft_wrap=True)

    return show
