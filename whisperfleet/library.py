"""Library interface of the verbs: their work, as functions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from asr.audio.features import Context
from asr.config import resolve
from asr.data.sources import SourceConfig, rows
from asr.inference import transcribe as transcription
from asr.inference.engine import Engine
from asr.inference.transcribe import Transcription
from asr.io.cache import cache_root
from asr.language import code_or_none
from asr.models.artifact import load_model
from asr.models.family import best_device
from asr.utterance import Quarantined, Utterance
from serve import app
from serve.config import ServeConfig
from serve.replica import engine_loader
from train.config import TrainConfig
from train.evaluation import offline as scoring
from train.evaluation.offline import Evaluated
from train.run import fit as training
from train.run.fit import Fitted


def load_engine(model: str, *settings: str) -> Engine:
    """Load a model for ``transcribe``: an artifact's folder, a hub id, a local checkpoint or ``builtin:base``.

    ``settings`` are words like ``engine=torch`` or ``gpu=1``, of the keys of ``serve``. Raises UserError where the
    model is missing, damaged or no Whisper.
    """
    return engine_loader.load_engine(_endpoint(model, settings))


def transcribe(
    audio: str | Path, model: str | Engine, language: str | None = None, keywords: Sequence[str] = ()
) -> Transcription:
    """Transcribe a file of any length in this process, with the text that the endpoint would answer.

    ``language`` is a code or name; without, it is the model's, or detected. ``keywords`` are words and phrases to be
    expected. Raises UserError for a language that the model does not know, and for keywords if it takes none;
    DataError for keywords that are no plain words, and for a file that cannot be used.
    """
    loaded = load_engine(model) if isinstance(model, str) else model
    return transcription.transcribe(loaded, Path(audio), language, keywords=keywords)


def fit(config: str | Path | TrainConfig, *settings: str) -> Fitted:
    """Fine-tune on Ray as ``whisperfleet train`` does; return the artifact's path and its card.

    ``config`` is a YAML file or a configuration made of it, ``settings`` are words like ``optim.max_steps=300`` over
    the file's. Raises UserError for what a person must mend.
    """
    if isinstance(config, TrainConfig):
        if settings:
            raise TypeError("settings go with a file: a configuration is changed by its own model_copy")
        return training.fit(config)
    return training.fit(resolve(TrainConfig, Path(config), settings).value)


def evaluate(
    model: str, source: str | SourceConfig, language: str | None = None, context: Context | None = None
) -> Evaluated:
    """Transcribe labelled speech and score it.

    ``evaluation`` has ``wer``, ``wer_ortho`` and ``cer`` with intervals, and each transcript; ``quarantined`` is what
    could not take part. ``source`` is whatever ``data prepare`` reads. ``context`` is ``full`` (each clip padded to
    30 s) or ``short``; without, the model's own. Raises UserError where no clip is usable.
    """
    described = SourceConfig(source=source) if isinstance(source, str) else source
    given = list(rows(described, cache_root()))
    utterances = [row for row in given if isinstance(row, Utterance)]
    loaded = load_model(model, best_device())
    done = scoring.evaluate(loaded, utterances, context, code_or_none(language))
    unread = [row for row in given if isinstance(row, Quarantined)]
    return Evaluated(done.evaluation, [*unread, *done.quarantined])


@contextmanager
def running(model: str, *settings: str) -> Iterator[str]:
    """Serve a model for the length of the block; yield the base URL of the endpoint, OpenAI's audio API below ``/v1``.

    ``settings`` are words like ``port=0``, of the keys of ``serve``. Raises UserError where the model or the port is
    not to be had.
    """
    with app.running(_endpoint(model, settings)) as url:
        yield url


def _endpoint(model: str, settings: tuple[str, ...]) -> ServeConfig:
    return resolve(ServeConfig, None, [*settings, f"model={json.dumps(model)}"]).value
