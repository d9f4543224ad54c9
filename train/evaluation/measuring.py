"""Measures one model in a process of its own, so that its memory is its own and goes with it."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from asr.audio.features import Context
from asr.errors import DataError, UserError
from asr.imports import lasting_imports
from asr.scoring.comparison import Measured
from asr.scoring.error_rates import has_words
from asr.scoring.evaluation import Evaluation, UtteranceResult
from asr.transcript import DecodingRequest
from asr.utterance import Utterance
from cluster import termination
from train.evaluation.common_set import CommonClip
from train.evaluation.offline import usable_waveforms

if TYPE_CHECKING:
    from asr.models.family import SpeechModel

_CHUNK = 32  # clips whose features are in memory: they fill two batches of like length
_BATCH = 16
_ENDS_S = 10.0  # for a process to end by itself, once its result is here
_STATUS = Path("/proc/self/status")

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Measurement:
    """One model's task: what to decode, in which context and language (None: the model's own).

    ``scored_as`` is the language by whose rules texts are compared, the same for all models.
    """

    model: str
    clips: Sequence[CommonClip]
    window_s: float
    context: Context | None
    language: str | None
    scored_as: str | None


def measured_apart(task: Measurement, on_progress: Advance | None = None) -> Measured:
    """Measure in a process that ends with it.

    Raises UserError where the model cannot be loaded, and where the process ends before it is done.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(task, theirs), daemon=True)
    with termination.given_to_children():
        process.start()
    theirs.close()
    try:
        told = _awaited(ours, on_progress)
        process.join(_ENDS_S)  # killed, it would leave semaphores behind, which Python warns of
    except EOFError:
        process.join()
        how = "was killed: is there enough memory?" if process.exitcode == -signal.SIGKILL else "has ended"
        what = f"{task.model}: its process {how} (exit code {process.exitcode})"
        raise UserError(what, "the results of models before it are kept in --out") from None
    finally:
        process.kill()
        process.join()
        ours.close()
    if isinstance(told, UserError):
        raise told
    return told


def _awaited(connection: Connection[object, object], on_progress: Advance | None) -> Measured | UserError:
    while True:
        told = connection.recv()
        if isinstance(told, Measured | UserError):
            return told
        if on_progress is not None and isinstance(told, tuple):
            on_progress(*told)


def _child(task: Measurement, connection: Connection[object, object]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    try:
        connection.send(measure(task, lambda done, total: connection.send((done, total))))
    except UserError as error:
        connection.send(error)


def measure(task: Measurement, on_progress: Advance | None = None) -> Measured:
    """Decode all clips in this process; results are in the order of the clips.

    Raises UserError where the model is missing or damaged, and where a clip is no longer what it was.
    """
    with lasting_imports():
        import torch

        from asr.models.artifact import load_model
        from asr.models.family import best_device, num_bytes

    model = load_model(task.model, best_device())
    context = task.context or model.context
    shortest = task.clips[-1:]
    # What is done once (kernels are chosen, memory is laid out) would make the first model, or a short test, look slow.
    _Decoding(model, context, task).add(shortest)
    memory = _Memory()
    decoding = _Decoding(model, context, task)
    for start in range(0, len(task.clips), _CHUNK):
        decoding.add(task.clips[start : start + _CHUNK])
        if on_progress is not None:
            on_progress(decoding.count, len(task.clips))
    seconds = decoding.features_s + decoding.decoding_s
    evaluation = Evaluation(model.name, task.scored_as, context, decoding.results, seconds, decoding.silence)
    return Measured(
        evaluation,
        digest=model.digest,
        family=model.family.name,
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        weights_bytes=num_bytes(model.network),
        peak_bytes=memory.peak_bytes(),
        peak_gpu_bytes=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        device=_device(),
        features_s=decoding.features_s,
        audio_decoding_s=decoding.audio_s,
    )


class _Decoding:
    """The results so far, and the time that each part took."""

    def __init__(self, model: SpeechModel, context: Context, task: Measurement) -> None:
        self._model, self._context, self._task = model, context, task
        self.results: list[UtteranceResult] = []
        self.silence: list[UtteranceResult] = []
        self.audio_s = self.features_s = self.decoding_s = 0.0

    @property
    def count(self) -> int:
        return len(self.results) + len(self.silence)

    def add(self, clips: Sequence[CommonClip]) -> None:
        """Decode some clips, and take their results into account."""
        started = time.perf_counter()
        sounds = usable_waveforms([one.utterance for one in clips], self._task.window_s)
        waveforms = [self._waveform(*pair) for pair in sounds]
        had_audio = time.perf_counter()
        asked = [self._request(clip.utterance, waveform) for clip, waveform in zip(clips, waveforms, strict=True)]
        had_features = time.perf_counter()
        heard = self._model.transcribe(asked, self._context, _BATCH)
        ended = time.perf_counter()
        self.audio_s += had_audio - started
        self.features_s += had_features - had_audio
        self.decoding_s += ended - had_features
        for clip, transcript in zip(clips, heard, strict=True):
            one = clip.utterance
            found = UtteranceResult(one.id, one.text, transcript.text, clip.duration_s)
            (self.results if has_words(one.text) else self.silence).append(found)

    def _request(self, one: Utterance, waveform: NDArray[np.float32]) -> DecodingRequest:
        language = one.language or self._task.language or self._model.language
        return DecodingRequest(self._model.features(waveform), language)

    @staticmethod
    def _waveform(one: Utterance, sound: NDArray[np.float32] | DataError) -> NDArray[np.float32]:
        if isinstance(sound, DataError):
            raise UserError(f"{one.id}: {sound}: it was there when the comparison began", "give the same command again")
        return sound


class _Memory:
    """The most memory that this process, and its GPU, holds from now on."""

    def __init__(self) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        if _STATUS.is_file():
            _STATUS.with_name("clear_refs").write_text("5")  # Linux' way to forget the peak so far, of loading

    @staticmethod
    def peak_bytes() -> int:
        if _STATUS.is_file():  # getrusage would tell what the process that started this one held, if that was more
            return 1024 * int(_STATUS.read_text().partition("VmHWM:")[2].split()[0])
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes, where it is no Linux


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.get_num_threads()} threads"


def reordered(measured: Measured, order: Sequence[str]) -> Measured:
    """Return the same with its utterances in the order of these ids."""
    places = {id: place for place, id in enumerate(order)}
    evaluation = measured.evaluation
    return replace(
        measured,
        evaluation=replace(
            evaluation,
            results=sorted(evaluation.results, key=lambda one: places[one.id]),
            silence=sorted(evaluation.silence, key=lambda one: places[one.id]),
        ),
    )
