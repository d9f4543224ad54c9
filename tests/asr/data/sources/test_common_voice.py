from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from asr.io.storage import join
from asr.utterance import Quarantined, Utterance
from tests.asr.data.sources.clips import assert_same_speech, good, message, read, write_audio

HEADER = "client_id\tpath\tsentence_id\tsentence\tup_votes\tage\tlocale\tsegment\n"


def release(folder: Path, clips: list[Utterance], locale: str = "en", durations: bool = True) -> Path:
    """A release as Mozilla packs it: the first clip is the test split, the others are for training."""
    names = write_audio(folder / "clips", clips, "mp3")
    pairs = list(zip(names, clips, strict=True))
    lines = [f"abc{n}\t{name}\ts{n}\t{clip.text}\t2\t\t{locale}\t\n" for n, (name, clip) in enumerate(pairs)]
    (folder / "test.tsv").write_text(HEADER + "".join(lines[:1]), encoding="utf-8")
    (folder / "train.tsv").write_text(HEADER + "".join(lines[1:]), encoding="utf-8")
    if durations:
        table = "".join(f"{name}\t{round(1000 * (clip.duration_s or 0))}\n" for name, clip in pairs)
        (folder / "clip_durations.tsv").write_text("clip\tduration[ms]\n" + table)
    return folder


@pytest.mark.medium
def test_round_trip(tmp_path: Path, clips: list[Utterance], place: Callable[[Path], str]) -> None:
    address = place(release(tmp_path / "cv/en", clips))
    found = good(read(address, split="train"))
    assert_same_speech(found, clips[1:])
    assert found[0].speaker == "abc1"
    assert found[0].language == "en"
    assert found[0].meta == {"sentence_id": "s1", "up_votes": "2"}
    assert [row.duration_s for row in found] == [round(clip.duration_s or 0, 3) for clip in clips[1:]]
    assert read(join(address, "test.tsv")) == read(address, split="test", format="common_voice")


@pytest.mark.medium
def test_without_durations_and_with_quotes(tmp_path: Path, clips: list[Utterance]) -> None:
    quoted = [Utterance(clip.id, clip.audio, f'"{clip.text}') for clip in clips]
    found = good(read(str(release(tmp_path / "en", quoted, durations=False)), split="train"))
    assert_same_speech(found, quoted[1:])
    assert {row.duration_s for row in found} == {None}


@pytest.mark.medium
def test_dhivehi_is_itself_or_for_whisper_another_language(tmp_path: Path, clips: list[Utterance]) -> None:
    folder = str(release(tmp_path / "dv", clips[:2], locale="dv"))
    assert good(read(folder, split="train"))[0].language == "dv"
    assert good(read(folder, split="train", language="Sinhala"))[0].language == "si"


def test_splits_are_named(tmp_path: Path, clips: list[Utterance]) -> None:
    folder = str(release(tmp_path / "en", clips[:2]))
    assert message(folder) == f"{folder}: its splits are test, train (say which: split: train)"
    assert "did you mean 'train'?" in message(folder, split="trian")
    Path(folder, "clip_durations.tsv").write_text("x\ty\n")
    assert "not clip and duration[ms]" in message(folder, split="train")


def test_quotes_of_a_release_are_text_and_paths_may_begin_with_clips(tmp_path: Path) -> None:
    lines = 'path\tsentence\nclips/a.mp3\t"dice ""ciao"""\nb.mp3\t"x"\n'
    (tmp_path / "train.tsv").write_text(lines)
    (tmp_path / "clip_durations.tsv").write_text("clip\tduration[ms]\na.mp3\t1500\n")
    first, second = good(read(str(tmp_path), split="train", format="common_voice"))
    assert (first.audio, first.duration_s) == (str(tmp_path / "clips/a.mp3"), 1.5)
    assert (first.text, second.text) == ('"dice ""ciao"""', '"x"')


def test_a_tab_within_a_sentence_cost_what_is_behind_it(tmp_path: Path) -> None:
    lines = "path\tsentence\tage\na.mp3\tuno\t\nb.mp3\tuno\tdue\t\n"
    (tmp_path / "train.tsv").write_text(lines)
    _, row = read(str(tmp_path), split="train", format="common_voice")
    assert isinstance(row, Quarantined) and row.reason == "malformed_row"
