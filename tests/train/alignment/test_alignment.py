from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from asr.data.manifest import read_manifest
from asr.errors import UserError
from asr.inference.align import Aligned
from asr.models.alignment import SegmentLimits
from asr.models.family import SpeechModel
from asr.utterance import Quarantined, Utterance
from tests.manifests import read_quarantine
from train.alignment import alignment
from train.alignment.alignment import AlignedFiles, _topmost, align_rows, named


def test_out_is_a_manifest_or_a_folder_for_one(tmp_path: Path) -> None:
    files = AlignedFiles.at(tmp_path / "mine.jsonl")
    assert (files.manifest.name, files.quarantine.name) == ("mine.jsonl", "mine.quarantine.parquet")
    folder = AlignedFiles.at(tmp_path / "out")
    assert folder.manifest == tmp_path / "out" / "aligned.jsonl"
    assert folder.quarantine == tmp_path / "out" / "quarantine.parquet"


def test_rows_get_a_language_where_they_name_none_and_must_have_files() -> None:
    rows = [Utterance("a", "/a.flac"), Utterance("b", "/b.flac", language="de")]
    assert [row.language for row in named(rows, "it")] == ["it", "de"]
    with pytest.raises(UserError, match="c: its audio lies in the table itself"):
        named([*rows, Utterance("c", b"RIFF")], None)


class Stopping:
    """Aligns as many rows as it is told, then it is interrupted: what it was asked for, and its results."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked: list[str] = []

    def __call__(
        self, model: SpeechModel | None, rows: Iterable[Utterance], limits: SegmentLimits
    ) -> Iterator[Aligned]:
        for row in rows:
            if len(self.asked) == self.most:
                raise KeyboardInterrupt
            self.asked.append(row.id)
            if row.id == "long":
                pieces = [replace(row, id=f"long#{n}", start_s=n, end_s=n + 1.0, duration_s=1.0) for n in range(2)]
                yield Aligned(row, tuple(pieces), (Quarantined("long[3:4]", "not_spoken"),), 40.0, is_long=True)
            elif row.id == "bad":
                yield Aligned(row, quarantined=(Quarantined("bad", "silent", "why"),))
            else:
                yield Aligned(row, (replace(row, duration_s=2.0, meta={"words": []}),), sound_s=2.0)


def test_after_an_interruption_what_is_missing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Utterance(id, str(tmp_path / "a.flac"), "text") for id in ("b", "bad", "long", "a", "b")]
    files = AlignedFiles.at(tmp_path / "out.jsonl")
    seen: list[tuple[int, int]] = []

    def run(most: int, key: str = "model") -> list[str]:
        aligner = Stopping(most)
        monkeypatch.setattr(alignment, "align", aligner)
        unread = [Quarantined("x", "not_text")]
        try:
            done = align_rows(None, rows, unread, SegmentLimits(), files, [key], lambda *at: seen.append(at))  # type: ignore[arg-type]
        except KeyboardInterrupt:
            assert not files.manifest.exists() and files.journal.exists()
        else:
            assert (done.clips, done.recordings, done.segments) == (2, 1, 2)
            assert done.recording_hours == pytest.approx(40 / 3600, abs=1e-4)
            told = done.as_dict()
            assert told["quarantined"] == {"duplicate_id": 1, "not_spoken": 1, "not_text": 1, "silent": 1}
            assert done.elsewhere == ()
        return aligner.asked

    assert run(2) == ["b", "bad"]
    assert run(9) == ["bad", "long", "a"]  # what failed is tried again
    assert seen[-1] == (4, 4)
    assert not files.journal.exists()
    assert [row.id for row in read_manifest(files.manifest)] == ["b", "long#0", "long#1", "a"]
    assert {one.reason for one in read_quarantine(files.quarantine)} == {
        *("duplicate_id", "not_spoken", "not_text", "silent")
    }
    assert run(9) == ["b", "bad", "long", "a"]


def test_where_nothing_can_be_aligned_the_first_fault_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "align", Stopping(9))
    files, rows = AlignedFiles.at(tmp_path), [Utterance("bad", "/a.flac", "text")]
    with pytest.raises(UserError, match="none of 1 rows can be aligned, the first: bad: silent: why"):
        align_rows(None, rows, [], SegmentLimits(), files, [], lambda *at: None)  # type: ignore[arg-type]


def test_audio_outside_of_the_manifest_s_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "align", Stopping(9))
    rows = [Utterance("a", str(tmp_path / "audio" / "a.flac"), "text"), Utterance("b", "s3://b/b.flac", "text")]
    files = AlignedFiles.at(tmp_path / "out")
    (tmp_path / "out").mkdir()
    done = align_rows(None, rows, [], SegmentLimits(), files, [], lambda *at: None)  # type: ignore[arg-type]
    assert done.elsewhere == (str(tmp_path / "audio"),)


def test_a_corpus_of_a_thousand_folders_printed_them_all() -> None:
    corpus = {Path(f"/data/corpus/{speaker}/{chapter}") for speaker in range(9) for chapter in range(9)}
    assert _topmost(corpus) == ("/data/corpus",)
    assert _topmost({Path("/data/b"), Path("/data/b/c"), Path("/a")}) == ("/a", "/data/b")
    assert _topmost({Path(f"/{name}/x") for name in "abcd"}) == ("/a/x", "/b/x", "/c/x", "/d/x")
    assert _topmost(set()) == ()
