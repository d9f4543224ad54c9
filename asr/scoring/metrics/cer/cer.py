"""Character error rate as a local ``evaluate`` metric: ``evaluate.load("asr/scoring/metrics/cer")``."""

import evaluate

from asr.scoring.edits import align_characters
from asr.scoring.metrics import MetricOptions, metric_info, rates
from asr.scoring.normalizer import Normaliser


class Cer(evaluate.Metric):
    """Character error rate over all utterances: (substitutions + deletions + insertions) / reference length."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("Character error rate", "cer", "characters")

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        normaliser: Normaliser | None = None,
        language: str | None = None,
        interval: bool = False,
    ) -> dict[str, float | int]:
        return rates("cer", align_characters, references, predictions, MetricOptions(normaliser, language, interval))
