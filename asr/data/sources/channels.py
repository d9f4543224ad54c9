"""Selects one track or channel of a source's files, or each channel on its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby

from asr.audio.probe import Header
from asr.audio.sandbox import MOST_TASKS, headers
from asr.data.batches import batches
from asr.errors import DataError
from asr.sound import DEFAULT_CHOICE, EACH, SoundChoice
from asr.utterance import Quarantined, Utterance


def chosen(rows: Iterable[Utterance | Quarantined], choice: SoundChoice) -> Iterator[Utterance | Quarantined]:
    """Yield the rows with ``choice`` in those that do not choose for themselves.

    Where that is each channel, a row becomes as many as its file has channels, ``id#left``, ``id#right`` or, of more
    than two, ``id#channel0`` and so on; a file that cannot be opened is quarantined with the decoder's reason.
    """
    for each, run in groupby((_choosing(row, choice) for row in rows), _wants_each):
        if not each:
            yield from run
            continue
        for batch in batches(run, MOST_TASKS):
            told = [row for row in batch if isinstance(row, Utterance)]
            for row, found in zip(told, headers(told), strict=True):
                yield from _channels(row, found)


def _choosing(row: Utterance | Quarantined, choice: SoundChoice) -> Utterance | Quarantined:
    return replace(row, sound=choice) if isinstance(row, Utterance) and row.sound == DEFAULT_CHOICE else row


def _wants_each(row: Utterance | Quarantined) -> bool:
    return isinstance(row, Utterance) and row.sound.channel == EACH


def _channels(row: Utterance, found: Header | DataError) -> Iterator[Utterance | Quarantined]:
    if isinstance(found, DataError):
        yield Quarantined(row.id, found.reason, found.detail)
        return
    track, count = row.sound.track, found.channels
    if count == 1:
        yield replace(row, sound=SoundChoice(track))
        return
    names = ("left", "right") if count == 2 else tuple(map(str, range(count)))
    for name in names:
        yield replace(row, id=row.id + SoundChoice(channel=name).label, sound=SoundChoice(track, name))
