"""Metrics of the ingress in Prometheus' text format: of each model and key, with units in the names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from asr.transcript import DecodingRequest
from serve.ingress.limits.admission import Admission
from serve.replica.window_result import WindowResult

CONTENT_TYPE = CONTENT_TYPE_LATEST
INGRESS_LABEL = "ingress"

Families = list[Metric]
"""The metrics of one ingress, by families."""

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_FACTORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_WHOSE = ("model", "version", "key")
_MODEL = ("model", "version")


@dataclass(frozen=True)
class MetricLabels:
    """Labels of a request: the model's public name, whether its stable version or the candidate, and the key."""

    model: str
    version: str
    key: str

    @property
    def of_model(self) -> tuple[str, str]:
        """Labels of metrics without a key."""
        return self.model, self.version

    @property
    def labels(self) -> tuple[str, str, str]:
        """Labels of metrics with a key."""
        return self.model, self.version, self.key


def exposition(by_ingress: Mapping[str, Families]) -> bytes:
    """Return the metrics of ingresses in Prometheus' text format, for ``CONTENT_TYPE``, each under its label."""
    merged: dict[str, Metric] = {}
    for ingress, families in by_ingress.items():
        for family in families:
            into = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type, family.unit))
            into.samples += [one._replace(labels={INGRESS_LABEL: ingress, **one.labels}) for one in family.samples]
    registry = CollectorRegistry()
    registry.register(_Collected(list(merged.values())))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Families:
        return self._families


class Metrics:
    """A registry of its own, so that what Ray exports stays apart, and each ingress starts from zero.

    ``model`` and ``key`` are names that we gave, never what a client wrote, and ``version`` is ``stable`` or
    ``candidate``: there are few of them. What is in flight is counted for all models, under the default's name.
    """

    def __init__(self, model: str, admission: Admission, max_batch_audio_s: float) -> None:
        self._max_batch_audio_s = max_batch_audio_s
        self._registry = CollectorRegistry()
        self._make_counters()
        self._make_histograms()
        for name, text, read in (
            ("requests_in_flight", "Requests uploading, waiting or being transcribed", lambda: admission.requests),
            ("requests_in_house", "Old name of requests_in_flight, until the next version", lambda: admission.requests),
            ("queued_audio_seconds", "Audio not transcribed yet, as the encoder sees it", lambda: admission.audio_s),
            ("queue_age_seconds", "How long the oldest of these requests has been here", lambda: admission.age_s),
        ):
            gauge = Gauge(f"whisperfleet_{name}", text, ("model",), registry=self._registry)
            gauge.labels(model).set_function(read)

    def answered(self, labels: MetricLabels, status: int, seconds: float, audio_s: float) -> None:
        """Count an answer to a request for words. ``audio_s`` is the recording's length, 0 where it was not read."""
        self._requests.labels(*labels.labels, str(status)).inc()
        self._request_seconds.labels(*labels.labels).observe(seconds)
        if status < 400 and audio_s > 0:
            self._audio_seconds.labels(*labels.labels).inc(audio_s)
            self._real_time_factor.labels(*labels.labels).observe(seconds / audio_s)

    def silent(self, labels: MetricLabels, audio_s: float) -> None:
        """Count audio in which nobody speaks, and which no model is asked about. In seconds."""
        self._silent_seconds.labels(*labels.labels).inc(audio_s)

    def window_done(self, labels: MetricLabels, clip: DecodingRequest, result: WindowResult) -> None:
        """Count a transcribed window, and its batch with one window of it."""
        self._windows.labels(*labels.labels).inc()
        if result.transcript.temperature > clip.temperature:
            self._fallbacks.labels(*labels.labels).inc()
        if not result.transcript.text:
            self._empty.labels(*labels.labels).inc()
        self._wait_seconds.labels(*labels.labels).observe(result.waited_s)
        if result.batch is not None:
            self._batch_fill.labels(*labels.of_model).observe(result.batch.audio_s / self._max_batch_audio_s)
            self._batch_seconds.labels(*labels.of_model).inc(result.batch.seconds)
            self._batch_audio_seconds.labels(*labels.of_model).inc(result.batch.audio_s)

    def sent_again(self, labels: MetricLabels) -> None:
        """Count a window whose replica died."""
        self._sent_again.labels(*labels.labels).inc()

    def families(self) -> Families:
        """Return everything, to be sent to another ingress; see ``exposition``."""
        return list(self._registry.collect())

    def _make_counters(self) -> None:
        self._requests = self._counter("requests", "Requests for words, by HTTP status", (*_WHOSE, "status"))
        self._audio_seconds = self._counter("audio_seconds", "Length of the recordings transcribed", _WHOSE)
        self._silent_seconds = self._counter("silent_audio_seconds", "Of these, where nobody speaks", _WHOSE)
        self._windows = self._counter("windows", "Windows of at most 30 s transcribed", _WHOSE)
        self._fallbacks = self._counter("fallback_windows", "Of these, decoded again at a higher temperature", _WHOSE)
        self._empty = self._counter("empty_windows", "Of these, without words", _WHOSE)
        self._sent_again = self._counter("windows_sent_again", "Windows whose replica died", _WHOSE)
        self._batch_seconds = self._counter("batch_seconds", "Time that batches took to decode", _MODEL)
        self._batch_audio_seconds = self._counter("batch_audio_seconds", "Audio in them, as encoded", _MODEL)

    def _make_histograms(self) -> None:
        self._request_seconds = self._histogram("request_seconds", "From upload to answer", _SECONDS, _WHOSE)
        self._real_time_factor = self._histogram(
            "real_time_factor_ratio", "That, for each second of the recording", _FACTORS, _WHOSE
        )
        self._wait_seconds = self._histogram("window_wait_seconds", "Windows' time in the queue", _SECONDS, _WHOSE)
        self._batch_fill = self._histogram("batch_fill_ratio", "Audio in a batch, of its bound", _SHARES, _MODEL)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"whisperfleet_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...]) -> Histogram:
        return Histogram(f"whisperfleet_{name}", text, labels, buckets=buckets, registry=self._registry)
