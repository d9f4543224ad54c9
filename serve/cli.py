"""The verb ``serve``."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from asr.config import resolve
from serve.app import running
from serve.config import ServeConfig


def serve(
    model: Annotated[str, typer.Argument(help="An artifact's folder, a hub id, a local checkpoint or builtin:base.")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As in the file.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file, such as configs/serve.yaml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as one JSON object.")] = False,
) -> None:
    """Run the transcription endpoint until Ctrl-C."""
    resolved = resolve(ServeConfig, config, [*(settings or []), f"model={json.dumps(model)}"]).value
    with running(resolved) as url:
        typer.echo(_announcement(resolved, url, as_json))
        _until_signal()


def _until_signal() -> None:
    """Wait for SIGINT or SIGTERM, and ignore further ones: a second Ctrl-C must not leave half of Ray behind."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # here and not earlier, because ray.init sets handlers of its own
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def _announcement(config: ServeConfig, url: str, as_json: bool) -> str:
    if as_json:
        return json.dumps({"url": url, "model": config.public_name})
    curl = f"curl {url}/v1/audio/transcriptions -F model={config.public_name} -F file=@speech.wav"
    return f"'{config.public_name}' is served at {url}\n  {curl}\nCtrl-C ends it."
