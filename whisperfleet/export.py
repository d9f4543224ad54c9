"""The verb ``export``. What writes is imported once the options are read: with it come torch and transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from asr.models.checkpoint import require
from asr.models.export_formats import Format, Quantization


def export(
    model: Annotated[str, typer.Argument(help="An artifact's folder or address, a hub id, a folder or builtin:base.")],
    out: Annotated[Path, typer.Argument(help="The new folder.")],
    form: Annotated[Format, typer.Option("--format", help="Which software shall load it.")] = "transformers",
    quantization: Annotated[
        Quantization | None, typer.Option(help="Without: float32 for transformers, int8 for others.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    require(model)
    from asr.models.export import export as write

    write(model, out, form, quantization)
    size = sum(path.stat().st_size for path in out.iterdir())
    if as_json:
        typer.echo(json.dumps({"folder": str(out), "format": form, "bytes": size}))
    else:
        typer.echo(f"{out}: {form}, {size / 1e6:.0f} MB")
