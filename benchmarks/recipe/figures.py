"""Comparison of the two sides' figures: the ratios, the table for people and the JSON for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from rich.table import Table

from asr.parsed import JsonObject

Curve = Sequence[Mapping[str, float]]
SideFigures = JsonObject

GB = 1e9


def common_wer(curves: Sequence[Curve]) -> float:
    """Return the lowest validation WER that every side reached at one of its checkpoints."""
    return max(min(point["wer"] for point in curve) for curve in curves)


def seconds_to(curve: Curve, wer: float) -> float | None:
    """Return the wall time of the first checkpoint that is as good as ``wer``, or None where none is.

    Nothing is interpolated: between two checkpoints nobody has a checkpoint.
    """
    return next((point["wall_s"] for point in curve if point["wer"] <= wer), None)


def throughput(runs: Sequence[SideFigures]) -> float:
    """Return the seconds of speech trained on in a second of training, over all runs of a side."""
    return float(sum(run["audio_s"] for run in runs) / sum(run["train_s"] for run in runs))


def compare(ours: Sequence[SideFigures], recipe: SideFigures, probe: SideFigures) -> JsonObject:
    """Return the figures of the JSON line. ``probe`` is the recipe with gradient checkpointing, for a few steps.

    Ours was run several times, between the recipe's parts: rates of speed and waiting are over all runs together, error
    rates and times to them are means, memory is the run's that had the most.
    """
    target = common_wer([recipe["curve"], *(run["curve"] for run in ours)])
    reached = [seconds_to(run["curve"], target) for run in ours]
    figures = {
        "audio_per_s_ours": throughput(ours),
        "audio_per_s_recipe": throughput([recipe]),
        "wer_ours": mean(run["wer"] for run in ours),
        "wer_ours_full_context": mean(run["wer_full_context"] for run in ours),
        "wer_recipe": recipe["wer"],
        "same_wer": target,
        "wall_s_to_same_wer_ours": mean(seconds for seconds in reached if seconds is not None),
        "wall_s_to_same_wer_recipe": seconds_to(recipe["curve"], target),
        "peak_gb_ours": max(run["peak_all_bytes"] for run in ours) / GB,
        "peak_gb_recipe": recipe["peak_all_bytes"] / GB,
        "peak_gb_recipe_checkpointing": probe["peak_all_bytes"] / GB,
        "peak_process_gb_ours": max(run["peak_process_bytes"] for run in ours) / GB,
        "peak_process_gb_recipe": recipe["peak_process_bytes"] / GB,
        "peak_process_gb_recipe_checkpointing": probe["peak_process_bytes"] / GB,
        "feature_bytes_on_disk": max(run["feature_bytes"] for run in ours),
        "feature_bytes_on_disk_recipe": recipe["feature_bytes"],
        "data_wait_share": sum(run["wait_s"] for run in ours) / sum(run["train_s"] for run in ours),
        "data_wait_share_recipe": recipe["wait_s"] / recipe["train_s"],
        "startup_s_ours": mean(run["startup_s"] for run in ours),
        "startup_s_recipe": recipe["startup_s"],
        "audio_per_s_recipe_checkpointing": throughput([probe]),
    }
    figures["speedup"] = figures["audio_per_s_ours"] / figures["audio_per_s_recipe"]
    for kind in ("peak", "peak_process"):
        for against in ("", "_checkpointing"):
            figures[f"{kind}_memory_ratio{against}"] = (
                figures[f"{kind}_gb_ours"] / figures[f"{kind}_gb_recipe{against}"]
            )
    return {name: rounded(value) for name, value in figures.items()}


def rounded(value: object) -> object:
    """Return four significant digits of a fraction, anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


# label, keys of ours and of the recipe, format, key of the ratio, target
_ROWS = (
    ("audio trained on, s per s", "audio_per_s_ours", "audio_per_s_recipe", "{:.2f}", "speedup", ">= 8"),
    ("WER, test split", "wer_ours", "wer_recipe", "{:.1%}", None, "no worse"),
    ("wall time to the same WER, s", "wall_s_to_same_wer_ours", "wall_s_to_same_wer_recipe", "{:.0f}", None, ""),
    ("peak memory, all processes, GB", "peak_gb_ours", "peak_gb_recipe", "{:.2f}", "peak_memory_ratio", "<= 0.5"),
    (
        "  the recipe checkpointing gradients",
        "peak_gb_ours",
        "peak_gb_recipe_checkpointing",
        "{:.2f}",
        "peak_memory_ratio_checkpointing",
        "",
    ),
    (
        "peak memory, training process, GB",
        "peak_process_gb_ours",
        "peak_process_gb_recipe",
        "{:.2f}",
        "peak_process_memory_ratio",
        "",
    ),
    ("features on disk, bytes", "feature_bytes_on_disk", "feature_bytes_on_disk_recipe", "{:,}", None, "0"),
    ("waiting for data", "data_wait_share", "data_wait_share_recipe", "{:.2%}", None, "< 2 %"),
    ("command to first step, s", "startup_s_ours", "startup_s_recipe", "{:.0f}", None, ""),
)


def table(result: JsonObject) -> Table:
    """Return the figures for people."""
    title = f"{result['base']}, {result['strategy']}, {result['utterances_recipe']} utterances of {result['clip_s']} s"
    drawn = Table("", "ours", "recipe", "ratio", "to reach", title=title)
    for label, ours, recipe, form, ratio, target in _ROWS:
        quotient = f"{result[ratio]:.2f}" if ratio else ""
        drawn.add_row(label, form.format(result[ours]), form.format(result[recipe]), quotient, target)
    drawn.add_row("preprocessing through Ray Data", f"{result['preprocess_efficiency']:.2f}", "", "", ">= 0.8")
    return drawn
