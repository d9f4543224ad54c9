"""Local modules for Hugging Face's ``evaluate``: by them `evaluate`, training, sweeps and roll-outs count.

The library fetches its own from a hub. ``evaluate.load(path)`` takes a module's folder and copies the file into a cache
below ``HF_HOME`` (default: the home directory); ``load`` here needs neither. With ``normaliser``, ``language`` and
``interval`` who loads one gets the figures of an artifact's card; without, texts are compared as they are. The edits
are found by ``asr.scoring.edits``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import datasets
import evaluate

from asr.scoring.bootstrap import bootstrap_interval
from asr.scoring.edits import AlignedSpan, EditCounts, count
from asr.scoring.normalizer import Normaliser, normalise

Align = Callable[[str, str], list[AlignedSpan]]


def metric_info(rate: str, name: str, units: str) -> evaluate.MetricInfo:
    """Describe an error rate such as ``word error rate``, returned as ``wer`` and counted in ``words``."""
    text = datasets.Value("string")
    return evaluate.MetricInfo(
        description=f"{rate}, with the counts it is made of, so that the results of workers add up.",
        citation="",
        inputs_description=f"""
    predictions: list of transcripts.
    references: list of what was said. One may be empty: all {units} of its prediction are insertions.
    normaliser: orthographic, normalised or legacy (see asr.scoring.normalizer); by default texts are taken as they are.
    language: a Whisper code, for the normaliser.
    interval: whether to add the bounds of a 95 % bootstrap interval.
Returns:
    {name}, hits, substitutions, deletions, insertions, reference_length (in {units}); low and high with interval.
""",
        features=datasets.Features({"predictions": text, "references": text}),
    )


@dataclass(frozen=True)
class MetricOptions:
    """Options of a metric: compare texts as they are or normalised, and draw the interval or not."""

    normaliser: Normaliser | None = None
    language: str | None = None
    interval: bool = False


def rates(
    name: str, align: Align, references: Sequence[str], predictions: Sequence[str], asked: MetricOptions
) -> dict[str, float | int]:
    """Return the error rate of parallel texts under ``name``, with the counts that it is made of."""
    if asked.normaliser is not None:
        references = [normalise(text, asked.normaliser, asked.language) for text in references]
        predictions = [normalise(text, asked.normaliser, asked.language) for text in predictions]
    each = [count(align(one, other)) for one, other in zip(references, predictions, strict=True)]
    told = sum(each, EditCounts()).as_metric(name)
    return told | dict(zip(("low", "high"), bootstrap_interval(each), strict=True)) if asked.interval else told


@contextmanager
def load(name: str) -> Iterator[evaluate.Metric]:
    """Yield ``wer`` or ``cer``, which keeps its texts in memory; nothing is fetched, and no home is needed."""
    from asr.scoring.metrics.cer.cer import Cer
    from asr.scoring.metrics.wer.wer import Wer

    with TemporaryDirectory() as folder:  # the library makes a folder in it, whatever it keeps there
        yield {"wer": Wer, "cer": Cer}[name](keep_in_memory=True, cache_dir=folder)
