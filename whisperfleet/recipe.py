"""The verb ``recipe``: lists the example configurations, or prints one."""

from __future__ import annotations

from typing import Annotated

import typer

from asr.config import suggestion
from asr.errors import UserError
from cluster.project import configurations


def recipe(
    name: Annotated[str, typer.Argument(help="Which one; without, they are listed.")] = "",
) -> None:
    """Print a configuration to copy: whisperfleet recipe demo > mine.yaml."""
    found = configurations()
    if not name:
        width = max(map(len, found))
        for each, path in found.items():
            first = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
            typer.echo(f"{each:<{width}}  {first}")
        return
    if name not in found:
        near = suggestion(name, list(found))
        raise UserError(f"there is no recipe '{name}'{near and f', {near}'}", f"choose one of {', '.join(found)}")
    typer.echo(found[name].read_text(encoding="utf-8"), nl=False)
