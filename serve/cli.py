"""The verb ``serve``. The endpoint is imported once the options are read: with it come torch and Ray."""

from __future__ import annotations

import json
import re
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.config import resolve
from asr.imports import lasting_imports
from asr.models.checkpoint import require
from serve.config import ServeConfig

if TYPE_CHECKING:
    from asr.inference.model_info import ModelInfo

_LOOK_S = 0.5
_SETTING = re.compile(r"[a-z_]+(\.[^=:/]+)*=")


def serve(
    model: Annotated[
        str, typer.Argument(help="An artifact's folder, a hub id, a local checkpoint or builtin:base.")
    ] = "",
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As in the file.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file, such as configs/serve.yaml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as one JSON object.")] = False,
) -> None:
    """Run the transcription endpoint until Ctrl-C.

    Without MODEL the file or the settings name the models. ``whisperfleet serve models --help`` is about changing them
    while it runs.
    """
    words = settings or []
    if _is_setting(model):
        words = [model, *words]
    elif model:
        words = [*words, f"model={json.dumps(model)}"]
    resolved = resolve(ServeConfig, config, words).value
    if not resolved.registry:  # which may have put others in their place since
        for artifact in resolved.artifacts.values():
            require(artifact)
    with lasting_imports():
        from serve.app import running, served

    with running(resolved) as url:
        typer.echo(_announcement(resolved, url, served(), as_json))
        _until_signal()


def _is_setting(word: str) -> bool:
    """Return whether a word is a setting rather than a model: folders and addresses may have ``=`` in them too."""
    return _SETTING.match(word) is not None and not Path(word).expanduser().exists()


def _until_signal() -> None:
    """Wait for SIGINT or SIGTERM, and ignore further ones: a second Ctrl-C must not leave half of Ray behind."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # here and not earlier, because ray.init sets handlers of its own
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(_LOOK_S):  # a signal just before a wait does not wake it, and Python's handler runs after it
        pass


def _announcement(config: ServeConfig, url: str, model: ModelInfo, as_json: bool) -> str:
    if as_json:
        run = {"family": model.family, "engine": model.engine, "precision": model.precision, "context": model.context}
        return json.dumps({"url": url, "model": config.public_name, "models": list(config.artifacts), **run})
    curl = f"curl {url}/v1/audio/transcriptions -F model={config.public_name} -F file=@speech.wav"
    names = ", ".join(f"'{name}'" for name in config.artifacts)
    served = "is served" if len(config.artifacts) == 1 else "are served"
    return f"{names} {served} at {url} ({model.computed})\n  {curl}\nCtrl-C ends it."
