"""The learning curve of a run as a picture: loss, word error rates and learning rate over its steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.evaluation.schedule import from_json
from train.events import Corpus, Scored
from train.tracking.history import Row, rows

_MOST_POINTS = 2000
_SMOOTHING = 0.05  # width of the moving average, as a share of the run
_INK, _BLUE, _RED, _GREY = "#222222", "#1f6feb", "#c2410c", "#8a8f98"


def draw(history: Path, target: Path, best_step: int | None = None) -> bool:
    """Write the curve of a history file as PNG and return True; False where there is no step to draw."""
    steps, scored = _read(history)
    if not steps:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    panels = 3 if scored else 2
    figure = Figure(figsize=(8, 2.6 * panels - 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(panels, 1, sharex=True, height_ratios=[2, 2, 1][-panels:])
    x = np.array([row["step"] for row in steps])
    loss = np.array([row["loss"] for row in steps])
    axes[0].plot(x, loss, color=_BLUE, alpha=0.3, linewidth=1)
    axes[0].plot(x, _smooth(loss), color=_BLUE, linewidth=2)
    axes[0].set(ylabel="training loss", ylim=(0, float(np.quantile(loss, 0.99)) * 1.15))
    if scored:
        _rates(axes[1], scored, best_step)
        axes[1].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes[-1].plot(x, [row["learning_rate"] for row in steps], color=_GREY, linewidth=1.5)
    axes[-1].set(ylabel="learning rate", xlabel="optimiser step", ylim=(0, None), xlim=(0, int(x[-1]) * 1.01))
    axes[-1].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#e5e7eb", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.tick_params(colors=_INK)
    figure.align_ylabels(axes)
    figure.savefig(target, dpi=120, metadata={"Software": None})
    return True


def _read(history: Path) -> tuple[list[Row], list[Scored]]:
    """Return the steps, thinned to what a picture can show, and all evaluations."""
    count = sum("loss" in row for row in rows(history))
    every = max(1, count // _MOST_POINTS)
    steps: list[Row] = []
    scored: list[Scored] = []
    seen = 0
    for row in rows(history):
        if "corpus" in row:
            scored += from_json([row])
        elif "loss" in row:
            seen += 1
            if seen % every == 0 or seen == count:
                steps.append(row)
    return steps, sorted(scored, key=lambda one: one.step)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over a window centred at each value, narrower at both ends."""
    reach = max(1, int(len(values) * _SMOOTHING / 2))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    means: NDArray[np.float64] = (sums[high] - sums[low]) / (high - low)
    return means


def _rates(panel: object, scored: Sequence[Scored], best_step: int | None) -> None:
    from matplotlib.axes import Axes

    assert isinstance(panel, Axes)
    kinds: list[tuple[Corpus, str, str]] = [("validation", _BLUE, "-"), ("retention", _RED, "--")]
    for corpus, colour, style in kinds:
        points = [one for one in scored if one.corpus == corpus]
        if not points:
            continue
        x = [one.step for one in points]
        rates = [one.wer for one in points]
        panel.plot(x, rates, style, marker="o", markersize=4, color=colour, label=corpus)
        low, high = ([float(one.summary["wer"][bound]) for one in points] for bound in ("low", "high"))
        panel.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        for one in points:
            if corpus == "validation" and one.step == best_step:
                panel.plot([one.step], [one.wer], "o", markersize=11, markerfacecolor="none", color=colour)
                panel.annotate(
                    f"best {one.wer:.1%}", (one.step, one.wer), (0, 10), textcoords="offset points", ha="center"
                )
    panel.set(ylabel="WER", ylim=(0, None))
    panel.legend(frameon=False, loc="upper right")
