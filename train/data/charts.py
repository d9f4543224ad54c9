"""Pictures of a source's lengths for a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def draw_lengths(path: Path, histogram: Sequence[int], bin_s: float, title: str) -> None:
    """Write a PNG of clips by length: ``histogram`` has their number in bins of ``bin_s``, and of all longer ones."""
    from matplotlib.figure import Figure  # without pyplot: no window system is looked for, and no state kept
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 3.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    *bins, longer = histogram
    last = max((number for number, clips in enumerate(bins, start=1) if clips), default=1)
    shown = bins[: last if not longer else len(bins)]
    axes.bar([(number + 0.5) * bin_s for number in range(len(shown))], shown, bin_s * 0.92, color="#3b6ea5")
    if longer:
        edge = len(bins) * bin_s
        axes.bar(edge + bin_s, longer, bin_s * 2, color="#b5472f", label=f"{edge:g} s and more: {longer:,}")
        axes.legend(frameon=False)
    axes.set(xlabel="length in seconds", ylabel=f"clips per {bin_s:g} s", title=title)
    axes.set_xlim(0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.savefig(path)
