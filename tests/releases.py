"""Releases of Common Voice, as people download and unpack them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from asr.utterance import Utterance


def write_release(folder: Path, locale: str, **splits: Sequence[Utterance]) -> None:
    """Write a release of one language: a table for each split, and all clips' audio, copied as it is, in one folder."""
    (folder / "clips").mkdir(parents=True)
    for split, clips in splits.items():
        lines = ["client_id\tpath\tsentence\tlocale"]
        for clip in clips:
            name = clip.id.replace("/", "-") + Path(str(clip.audio)).suffix
            shutil.copy(str(clip.audio), folder / "clips" / name)
            lines.append(f"me\t{name}\t{clip.text}\t{locale}")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
