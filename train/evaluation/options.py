"""Options that the verbs that evaluate have in common: the rows of a test set, and the context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from asr.audio.features import Context
from asr.data.sources import SourceConfig, rows
from asr.errors import UserError
from asr.io.cache import cache_root
from asr.utterance import Quarantined, Utterance

Manifest = Annotated[str, typer.Option(help="Manifest, or any other source that `data prepare` reads.")]
Language = Annotated[str | None, typer.Option(help="Code or name; default: the artifact's, or detected.")]
ContextName = Annotated[str, typer.Option(help="full (30 s), short (the clip's length) or auto.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@dataclass(frozen=True)
class GivenRows:
    """All rows of a source, those that can be read and those that cannot."""

    utterances: Sequence[Utterance]
    unread: Sequence[Quarantined]

    @property
    def count(self) -> int:
        """Rows in all."""
        return len(self.utterances) + len(self.unread)


def given_rows(source: SourceConfig) -> GivenRows:
    """Return the rows of a source. Raises UserError where none can be evaluated."""
    given = list(rows(source, cache_root()))
    found = GivenRows(
        [row for row in given if isinstance(row, Utterance)], [row for row in given if isinstance(row, Quarantined)]
    )
    if not found.utterances:
        unread = found.unread
        first = f", the first: {unread[0].id}: {unread[0].reason}: {unread[0].detail}" if unread else ""
        raise UserError(f"{source.source}: none of {len(unread)} rows can be evaluated{first}", "mend the rows")
    return found


def context_of(asked: str) -> Context | None:
    """Return the context that was asked for, None for the model's own. Raises UserError for any other word."""
    match asked:
        case "auto":
            return None
        case "short" | "full":
            return asked
    raise UserError(f"--context {asked}: unknown", "choose full, short or auto")
