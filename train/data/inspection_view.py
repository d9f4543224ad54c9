"""The result of ``data inspect`` as a person reads it in a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from train.data.inspect import BIN_S, Inspection
from train.data.pace import PaceFigures

MAX_ROWS = 16
MAX_CHARACTERS = 20
MAX_EXAMPLE = 90
BAR = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"


def show(inspection: Inspection, source: str, against: str | None, base: str, room: int, console: Console) -> None:
    """Print what was found; nothing is printed about what there is none of.

    ``room`` is how many tokens a label of the ``base`` has room for.
    """
    console.print(_figures(inspection, source, room))
    console.print()
    for line in histogram_lines(inspection.histogram):
        console.print(line)
    for warning in inspection.warnings:
        console.print(Text.assemble(("\nwarning: ", "bold yellow"), warning))
    _show_repeats(inspection, against, console)
    _show_characters(inspection, base, console)
    _show_faults(inspection, console)
    console.print(f"\n{inspection.seconds_per_1000_clips:.1f} s per thousand clips")


def _figures(inspection: Inspection, source: str, room: int) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(Text("source", style="bold"), source)
    usable = inspection.usable
    grid.add_row(Text("rows", style="bold"), f"{inspection.rows:,}, of which {usable.clips:,} usable")
    grid.add_row(Text("speech", style="bold"), f"{_time(usable.hours)} usable of {_time(inspection.decoded.hours)}")
    if inspection.length_s:
        lengths = ", ".join(f"{name} {value:.2f} s" for name, value in inspection.length_s.items())
        grid.add_row(Text("lengths", style="bold"), lengths)
    languages = (
        f"{name} ({amount.clips:,} clips, {_time(amount.hours)})" for name, amount in inspection.languages.items()
    )
    grid.add_row(Text("languages", style="bold"), ", ".join(languages) or "none")
    if inspection.speakers:
        grid.add_row(Text("speakers", style="bold"), f"{inspection.speakers:,}")
    rates = {f"{int(rate) / 1000:g} kHz": clips for rate, clips in inspection.sample_rates.items()}
    channels = {f"{count} channel{'s' * (count != '1')}": clips for count, clips in inspection.channels.items()}
    grid.add_row(Text("audio", style="bold"), "; ".join(map(_shares, (inspection.codecs, rates, channels))))
    tokens = f"{inspection.tokens_per_s:.1f} a second, longest label {inspection.max_label_tokens} of {room}"
    grid.add_row(Text("tokens", style="bold"), tokens)
    if inspection.pace is not None:
        grid.add_row(Text("speaking rate", style="bold"), _pace(inspection.pace))
    return grid


def _pace(pace: PaceFigures) -> str:
    fits = "" if pace.agreement is None else f", rank correlation of text and length {pace.agreement:.2f}"
    return f"{pace.letters_per_s:.1f} letters a second{fits}"


def histogram_lines(histogram: Sequence[int]) -> list[Text]:
    """Return a line with a bar for each range of lengths; neighbouring bins are joined to at most 16 lines."""
    *bins, longer = histogram
    filled = (number for number, clips in enumerate(bins, start=1) if clips)
    last = len(bins) if longer else max(filled, default=0)
    wide = next(wide for wide in (1, 2, 4, 10, 20) if last <= wide * MAX_ROWS)
    rows = [(_range(first, first + wide), sum(bins[first : first + wide])) for first in range(0, last, wide)]
    if longer:
        rows.append((f"{len(bins) * BIN_S:g} s and more", longer))
    most = max((clips for _, clips in rows), default=1)
    width = max((len(label) for label, _ in rows), default=0)
    return [
        Text.assemble(f"{label:>{width}}  ", (f"{_bar(clips / most):{BAR}}", "cyan"), f"  {clips:,}")
        for label, clips in rows
    ]


def _range(first: int, last: int) -> str:
    return f"{first * BIN_S:g} to {last * BIN_S:g} s"


def _bar(share: float) -> str:
    eighths = max(round(share * BAR * 8), 1 if share else 0)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _show_repeats(inspection: Inspection, against: str | None, console: Console) -> None:
    found = [
        *((f"same {kind} as an earlier clip", repeats) for kind, repeats in inspection.duplicates.items()),
        *((f"same {kind} as a clip of {against}", repeats) for kind, repeats in inspection.overlap.items()),
    ]
    table = _table("repeated", "clips", "for example")
    for what, repeats in found:
        if repeats.clips:
            pairs = ", ".join(f"{later} = {earlier}" for earlier, later in repeats.examples)
            table.add_row(what, f"{repeats.clips:,}", pairs)
    if table.rows:
        console.print()
        console.print(table)
    if inspection.overlap and not any(repeats.clips for repeats in inspection.overlap.values()):
        console.print(f"\nno overlap with {against}, neither by transcript nor by audio")


def _show_characters(inspection: Inspection, base: str, console: Console) -> None:
    if not inspection.characters:
        return
    table = _table("character", "name", "count", "tokens", "why", "for example")
    for odd in inspection.characters[:MAX_CHARACTERS]:
        examples = ", ".join(odd.examples)
        table.add_row(_shape(odd.character), odd.name, f"{odd.count:,}", str(odd.tokens), _words(odd.why), examples)
    console.print(f"\ncharacters to look at (tokens: {base})")
    console.print(table)
    more = len(inspection.characters) - MAX_CHARACTERS
    if more > 0:
        console.print(f"and {more:,} more: --json has all")


def _show_faults(inspection: Inspection, console: Console) -> None:
    if not inspection.faults:
        console.print("\nno faults")
        return
    table = _table("fault", "rows", "for example")
    for reason, count in inspection.faults.items():
        table.add_row(reason, f"{count:,}", "\n".join(map(_shortened, inspection.fault_examples[reason])))
    console.print()
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        right = column in ("clips", "rows", "count", "tokens")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _shape(character: str) -> str:
    code = f"U+{ord(character):04X}"
    if not character.isprintable() or character.isspace():
        return code
    return f"{'◌' * bool(unicodedata.combining(character))}{character}  {code}"


def _shortened(example: str) -> str:
    return example if len(example) <= MAX_EXAMPLE else f"{example[:MAX_EXAMPLE]} ..."


def _words(why: Sequence[str]) -> str:
    return ", ".join(reason.replace("_", " ") for reason in why)


def _shares(clips: dict[str, int]) -> str:
    return ", ".join(_named(clips)) or "none"


def _named(clips: dict[str, int]) -> Iterator[str]:
    for name, count in clips.items():
        yield name if len(clips) == 1 else f"{name} ({count:,})"


def _time(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"
