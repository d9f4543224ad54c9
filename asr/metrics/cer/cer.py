"""Character error rate as a local ``evaluate`` metric: ``evaluate.load("asr/metrics/cer")``."""

import evaluate

from asr.edits import align_characters
from asr.metrics import Asked, metric_info, rates
from asr.text import Normaliser


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
        return rates("cer", align_characters, references, predictions, Asked(normaliser, language, interval))
