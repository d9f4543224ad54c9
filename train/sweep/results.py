"""Results of a sweep: a table for people, ``results.csv``, a picture of the curves, the best artifact."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.table import Table

from asr.io import storage, transfer
from asr.io.spreadsheet import cells
from asr.models.artifact import CARD
from asr.parsed import JsonObject
from train.sweep.record import SweepRecord, TrialOutcome
from train.sweep.trials import TRIALS, described

TABLE, PICTURE, BEST = "results.csv", "results.png", "best"
_COLOURS = {"finished": "#1f6feb", "stopped": "#8a8f98", "failed": "#c2410c"}
_BEST_COLOUR = "#15803d"


def summary(record: SweepRecord) -> JsonObject:
    """Return the results as JSON: trials with the best first, rates as shares."""
    best = record.winner
    return {
        "sweep": record.uri,
        "best": {"artifact": storage.join(record.uri, BEST), **_row(best)} if best else None,
        "device_hours": round(sum(one.device_hours for one in record.outcomes), 4),
        "trials": [_row(one) for one in record.ranked],
    }


def table(record: SweepRecord) -> Table:
    """Return the results for a terminal."""
    shown = Table("trial", *record.outcomes[0].settings, "WER", "at step", "last step", "device hours", "")
    for one in record.ranked:
        row = _row(one)
        settings = [described({"": value})[1:] for value in one.settings.values()]
        rate = f"{row['wer']:.1%}" if row["wer"] is not None else ""
        said = "stopped early" if one.status == "stopped" else one.error or one.status
        cells = [one.name, *settings, rate, str(row["step"] or ""), str(row["last_step"] or "")]
        shown.add_row(*cells, f"{row['device_hours']:.3f}", said, style="bold" if one is record.winner else "")
    return shown


def write(record: SweepRecord) -> None:
    """Write ``results.csv`` and ``results.png`` into the sweep's folder."""
    text = io.StringIO()
    keys = list(record.outcomes[0].settings)
    rows = csv.writer(text)
    rows.writerow(["trial", *keys, "status", "wer", "step", "last_step", "device_hours", "error"])
    for one in record.ranked:
        row = _row(one)
        figures = [row[name] for name in ("status", "wer", "step", "last_step", "device_hours", "error")]
        rows.writerow(cells([one.name, *(described({"": value})[1:] for value in one.settings.values()), *figures]))
    storage.write_text(storage.join(record.uri, TABLE), text.getvalue())
    with TemporaryDirectory() as scratch:
        if draw(record, Path(scratch, PICTURE)):
            storage.write_bytes(storage.join(record.uri, PICTURE), Path(scratch, PICTURE).read_bytes())


def link_best(record: SweepRecord) -> str:
    """Make ``<sweep>/best`` the best artifact: a link in a local folder, a copy at an address. Return its URI."""
    assert record.winner is not None
    uri = storage.join(record.uri, BEST)
    artifact = storage.join(record.uri, TRIALS, record.winner.name, "artifact")
    if storage.is_remote(uri):
        with TemporaryDirectory() as scratch:
            transfer.download(artifact, Path(scratch))
            transfer.upload(Path(scratch), uri, last=CARD)
        return uri
    draft = Path(f"{uri}.new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(Path(TRIALS, record.winner.name, "artifact"))
    os.replace(draft, uri)
    return uri


def draw(record: SweepRecord, target: Path) -> bool:
    """Write the trials' word error rates over their steps as PNG and return True; False where there is none."""
    if not any(one.reports for one in record.outcomes):
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for one in reversed(record.ranked):  # the best on top
        if not one.reports:
            continue
        best = one is record.winner
        colour = _BEST_COLOUR if best else _COLOURS.get(one.status, "#222222")
        label = f"{one.name}: {described(one.settings)}" if best else None
        x, y = [report.step for report in one.reports], [report.wer for report in one.reports]
        panel.plot(x, y, color=colour, linewidth=2.2 if best else 1.2, marker="o", markersize=3.5, label=label)
        panel.annotate(one.name, (x[-1], y[-1]), (4, 0), textcoords="offset points", fontsize=7, va="center")
    panel.set(ylabel="WER on the validation sample", xlabel="optimiser step", ylim=(0, None))
    panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    if record.winner:
        panel.legend(frameon=False, loc="upper right")
    figure.savefig(target, dpi=120, metadata={"Software": None})
    return True


def _row(one: TrialOutcome) -> JsonObject:
    best = one.best
    return {
        "trial": one.name,
        "settings": one.settings,
        "status": one.status,
        "wer": best.wer if best else None,
        "step": best.step if best else None,
        "last_step": one.reports[-1].step if one.reports else None,
        "device_hours": round(one.device_hours, 4),
        "error": one.error,
    }
