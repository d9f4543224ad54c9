"""Figures of the turns: speed, latency and word error rate of each side, as a table and as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
from rich.table import Table

from asr.parsed import JsonObject
from asr.scoring.error_rates import score
from benchmarks.recipe.figures import rounded
from benchmarks.serving.host import DIRECT, LIBRARY, OURS, PIPELINE, SERVER

Load = Literal["saturating", "speaking", "long", "alternating"]
OUR = OURS[0]
NAMES = {
    OUR: "ours, ctranslate2 int8",
    OURS[1]: "ours, torch",
    LIBRARY: "faster-whisper, batched pipeline int8",
    SERVER: "FastAPI around faster-whisper",
    PIPELINE: "transformers pipeline",
    DIRECT: "our engine without Serve",
}


@dataclass(frozen=True)
class Turn:
    """A turn of one side: its transcripts of files, and how long they took.

    ``audio_s`` and ``latencies_s`` are of the files that were answered, ``texts`` of all of them; ``errors`` says how
    many were not.
    """

    side: str
    load: Load
    clients: int
    audio_s: float
    seconds: float
    texts: Sequence[str]
    latencies_s: Sequence[float]
    errors: int = 0


def of(turns: Iterable[Turn], side: str, load: Load, clients: int = 1) -> list[Turn]:
    """Return a side's turns of one kind."""
    return [turn for turn in turns if (turn.side, turn.load, turn.clients) == (side, load, clients)]


def speed(turns: Sequence[Turn]) -> float:
    """Return seconds of audio transcribed in a second, over turns of one kind."""
    return sum(turn.audio_s for turn in turns) / sum(turn.seconds for turn in turns)


def percentile_ms(turns: Sequence[Turn], share: int) -> float:
    """Return a percentile of the latencies of turns of one kind, in milliseconds."""
    return float(np.percentile([1000 * seconds for turn in turns for seconds in turn.latencies_s], share))


def overhead_ms(turns: Sequence[Turn], endpoint: str = OUR) -> float:
    """Return what HTTP and Serve add to a clip that was asked of both in turn: the median over clips, in milliseconds.

    A clip's own time is its best of all that it was asked: what else the machine does only ever adds.
    """
    served, direct = (_best(of(turns, side, "alternating")) for side in (endpoint, DIRECT))
    return 1000 * median(own - alone for own, alone in zip(served, direct, strict=True))


def _best(turns: Sequence[Turn]) -> list[float]:
    return [min(times) for times in zip(*(turn.latencies_s for turn in turns), strict=True)]


def wer(turns: Sequence[Turn], references: Sequence[str], language: str) -> float:
    """Return the normalised word error rate over turns of one kind; each has a text for each reference."""
    texts = [text for turn in turns for text in turn.texts]
    return score(list(references) * len(turns), texts, "normalised", language).rate


def compare(
    turns: Sequence[Turn], levels: Sequence[int], references: Mapping[Load, Sequence[str]], language: str
) -> JsonObject:
    """Return the figures of the JSON line."""
    short = {side: rates for side in NAMES if (rates := _short(turns, side, levels, references, language))}
    long = {
        side: {"audio_per_s": speed(own), "wer": wer(own, references["long"], language)}
        for side in NAMES
        if (own := of(turns, side, "long"))
    }
    fastest, most = str(levels[-1]), [str(level) for level in levels]
    figures = {
        "short_speedup": {n: short[OUR][n]["audio_per_s"] / short[LIBRARY][n]["audio_per_s"] for n in most},
        "short_speedup_server": {n: short[OUR][n]["audio_per_s"] / short[SERVER][n]["audio_per_s"] for n in most},
        "wer_ours": short[OUR][fastest]["wer"],
        "wer_faster_whisper": short[LIBRARY][fastest]["wer"],
        "long_speedup": long[OUR]["audio_per_s"] / long[LIBRARY]["audio_per_s"],
        "wer_long_ours": long[OUR]["wer"],
        "wer_long_faster_whisper": long[LIBRARY]["wer"],
        "serve_overhead_ms_p50": overhead_ms(turns),
        "p95_ms": {n: short[OUR][n]["speaking_p95_ms"] for n in most},
        "errors": {side: sum(turn.errors for turn in turns if turn.side == side) for side in NAMES},
        "p95_ms_server": {n: short[SERVER][n]["speaking_p95_ms"] for n in most},
        "short": short,
        "long": long,
    }
    return {name: _rounded(figure) for name, figure in figures.items()}


def _short(
    turns: Sequence[Turn], side: str, levels: Sequence[int], references: Mapping[Load, Sequence[str]], language: str
) -> dict[str, dict[str, float]]:
    figures = {}
    for clients in levels:
        own, open_loop = of(turns, side, "saturating", clients), of(turns, side, "speaking", clients)
        if not own:
            continue
        figures[str(clients)] = {
            "audio_per_s": speed(own),
            "wer": wer(own, references["saturating"], language),
            **{f"p{share}_ms": percentile_ms(own, share) for share in (50, 95, 99)},
            **(
                {f"speaking_p{share}_ms": percentile_ms(open_loop, share) for share in (50, 95, 99)}
                if open_loop
                else {}
            ),
        }
    return figures


def _rounded(value: object) -> object:
    if isinstance(value, int):
        return value
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return rounded(value)


def table(result: JsonObject) -> Table:
    """Return the figures for people: a row for each side and load."""
    title = f"{result['model']}: {result['clips']} clips of {result['clip_s']} s, one file of {result['long_s']:.0f} s"
    drawn = Table("", "clients", "audio s/s", "p50 / p95 / p99, ms", "as they speak, ms", "WER", "peak MB", title=title)
    for side, label in NAMES.items():
        memory = f"{result['peak_memory_mb_by_side'][side]:.0f}" if side in result["peak_memory_mb_by_side"] else ""
        for clients, own in result["short"].get(side, {}).items():
            speaking = _three(own, "speaking_") if "speaking_p50_ms" in own else ""
            drawn.add_row(
                label, clients, f"{own['audio_per_s']:.1f}", _three(own), speaking, f"{own['wer']:.1%}", memory
            )
            label = memory = ""
        if long := result["long"].get(side):
            drawn.add_row(label, "long file", f"{long['audio_per_s']:.1f}", "", "", f"{long['wer']:.1%}", memory)
        drawn.add_section()
    speedups = ", ".join(f"{ratio:.1f} at {clients}" for clients, ratio in result["short_speedup"].items())
    drawn.caption = (
        f"against faster-whisper: {speedups} clients (to reach: 4), long file {result['long_speedup']:.2f} (1); "
        f"Serve adds {result['serve_overhead_ms_p50']:.1f} ms at p50 (15)"
    )
    return drawn


def _three(figures: Mapping[str, float], prefix: str = "") -> str:
    return " / ".join(f"{figures[f'{prefix}p{share}_ms']:.0f}" for share in (50, 95, 99))
