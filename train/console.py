"""Progress of a run on stderr: a bar on a terminal, a line now and then without one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVarTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from asr.parsed import JsonObject
from cluster import termination
from train import events

console = Console(stderr=True)

# Without a terminal (a log file, CI) one line in so many seconds.
_LINE_EVERY_S = 15.0

More = TypeVarTuple("More")  # what a line tells beside how far it is
_WARM_STEPS = 3


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function of (done, in all or None where nobody knows) that shows how far ``what`` is."""
    if not console.is_terminal:
        yield _lines(lambda done, total: f"{what}: {done}" if total is None else f"{what}: {done} of {total}")
        return
    with _bar("{task.description}") as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def training() -> Iterator[Callable[[events.Progress], None]]:
    """Yield a function that shows a run's step, loss, speed and time left; after Ctrl-C say how to go on."""
    last: events.Progress | None = None

    def at() -> str:
        return f" at step {last.step} of {last.max_steps}" if last is not None else " before its first step"

    def remembered(show: Callable[[events.Progress], object]) -> Callable[[events.Progress], None]:
        def take(now: events.Progress) -> None:
            nonlocal last
            last = now
            show(now)

        return take

    with interruptible(at):
        if not console.is_terminal:
            line = _lines(lambda done, total, line: line)
            yield remembered(lambda now: line(now.step, now.max_steps, describe(now)))
            return
        with _bar("{task.description}") as bar:
            task = bar.add_task("starting the workers", total=None)
            yield remembered(
                lambda now: bar.update(task, completed=now.step, total=now.max_steps, description=describe(now))
            )


@contextmanager
def interruptible(at: Callable[[], str] = lambda: "") -> Iterator[None]:
    """After Ctrl-C or SIGTERM say where it stands, and how to go on."""
    with termination.telling(lambda: f"{at()}: the same command goes on from the last checkpoint, if there is one"):
        yield


def say(text: str) -> None:
    """Print a line that stays, also while a bar is shown."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def describe(now: events.Progress) -> str:
    """Return one line: step, loss, word error rate, share of blanks, speed, waiting for data, time left."""
    minutes, seconds = divmod(round(now.left_s), 60)
    # The first steps warm up caches and say nothing of the others.
    left = f", {minutes}:{seconds:02d} left" if now.step - now.resumed_at >= _WARM_STEPS else ""
    resumed = f", resumed at {now.resumed_at}" if now.resumed_at else ""
    rate = f", WER {now.wer:.1%}" if now.wer is not None else ""
    rate += f", {now.blank_share:.0%} blank" if now.blank_share is not None else ""
    speed = f"{now.audio_per_s:.1f} audio s/s, data wait {now.wait_share:.1%}"
    return f"step {now.step}/{now.max_steps}, loss {now.loss:.3f}{rate}, {speed}{left}{resumed}"


def ended(training: JsonObject) -> str:
    """Return one line of what an artifact's card says of its training: the step it is of, and why that one."""
    step, last = training["step"], training.get("last_step", training["step"])
    rates = {one["step"]: one for one in training.get("evaluations", ()) if one["corpus"] == "validation"}
    failed = training.get("failed_evaluations", ())
    without = f"; the evaluation of step {failed[-1]['step']} failed: {failed[-1]['error']}" if failed else ""
    if step not in rates:
        return f"weights of step {step}{', with no word error rate' if failed else ''}{without}"
    wer = rates[step]["wer"]
    interval = f"{wer['low']:.1%} to {wer['high']:.1%}"
    return f"best weights: step {step} of {last}, WER {wer['rate']:.1%} ({interval}) on the validation sample{without}"


def _bar(text: str) -> Progress:
    columns = (TextColumn(text), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def _lines(line: Callable[[int, int | None, *More], str]) -> Callable[[int, int | None, *More], None]:
    last = 0.0

    def show(done: int, total: int | None, *more: *More) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _LINE_EVERY_S or done == total:
            last = now
            console.print(line(done, total, *more), highlight=False)

    return show
