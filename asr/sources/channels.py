"""Rows of a source of whose files one track or channel is wanted, or each channel on its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from asr.errors import DataError
from asr.sandbox import header
from asr.sound import DEFAULT_CHOICE, EACH, SoundChoice
from asr.utterance import Quarantined, Utterance


def chosen(rows: Iterable[Utterance | Quarantined], choice: SoundChoice) -> Iterator[Utterance | Quarantined]:
    """Yield the rows with ``choice`` in those that do not choose for themselves.

    Where that is each channel, a row becomes as many as its file has channels, ``id#left``, ``id#right`` or, of more
    than two, ``id#channel0`` and so on; a file that cannot be opened is quarantined with the reason of ``asr.audio``.
    """
    for row in rows:
        if not isinstance(row, Utterance):
            yield row
            continue
        own = choice if row.sound == DEFAULT_CHOICE else row.sound
        if own.channel == EACH:
            yield from _each(row, own)
        else:
            yield replace(row, sound=own)


def _each(row: Utterance, choice: SoundChoice) -> Iterator[Utterance | Quarantined]:
    try:
        count = header(row.audio, choice).channels
    except DataError as fault:
        yield Quarantined(row.id, fault.reason, fault.detail)
        return
    if count == 1:
        yield replace(row, sound=SoundChoice(choice.track))
        return
    names = ("left", "right") if count == 2 else tuple(map(str, range(count)))
    for name in names:
        yield replace(row, id=row.id + SoundChoice(channel=name).label, sound=SoundChoice(choice.track, name))
