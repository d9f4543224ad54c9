"""``data inspect`` and ``data prepare``, called as the command line calls them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from asr.data.manifest import read_manifest
from asr.errors import UserError
from asr.utterance import Utterance
from tests.asr.data.sources.test_manifest import HOSTILE
from tests.asr.models.ctc import tiny
from tests.manifests import read_quarantine, write_beside
from tests.releases import write_release
from train.data.cli import inspect, prepare


@pytest.fixture
def manifest(tmp_path: Path, english_clips: list[Utterance]) -> str:
    """Real clips and one file that is no audio."""
    (tmp_path / "notes.wav").write_text("buy milk")
    rows = [*english_clips, Utterance("notes", str(tmp_path / "notes.wav"), "buy milk")]
    write_beside(tmp_path / "mine.jsonl", rows)
    return str(tmp_path / "mine.jsonl")


@pytest.fixture
def release(tmp_path: Path, english_clips: list[Utterance]) -> Path:
    """The clips as a Common Voice release with its own splits; one transcript of test is in train too."""
    folder = tmp_path / "cv" / "en"
    test = [*english_clips[12:16], replace(english_clips[20], text=english_clips[0].text)]
    write_release(folder, "en", train=english_clips[:8], dev=english_clips[8:12], test=test)
    return folder


@pytest.mark.medium
def test_prepare_prints_the_splits_and_what_went_into_quarantine(
    manifest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(manifest, tmp_path / "out", ["min_test_clips=6"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 rows (1 not_audio)" in printed
    assert "s per thousand clips" in printed
    assert [row.id for row in read_quarantine(tmp_path / "out/quarantine.parquet")] == ["notes"]


def test_prepare_refuses_an_unknown_setting(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown key 'min_test_clip' \(did you mean 'min_test_clips'"):
        prepare("prompts:it", tmp_path, ["min_test_clip=6"])


@pytest.mark.medium
def test_prepare_keeps_the_splits_of_a_release(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(str(release), tmp_path / "out", as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert result["clips"] == {"train": 8, "validation": 4, "test": 5}
    assert result["seconds_per_1000_clips"] > 0
    assert all(clip.language == "en" and clip.duration_s for clip in read_manifest(tmp_path / "out/validation.jsonl"))


@pytest.mark.medium
def test_prepare_one_split(release: Path, tmp_path: Path) -> None:
    prepare(str(release), tmp_path / "out", split="dev")
    assert len(read_manifest(tmp_path / "out/dev.jsonl")) == 4
    assert [path.name for path in (tmp_path / "out").glob("*.jsonl")] == ["dev.jsonl"]


@pytest.mark.medium
def test_prepare_a_table_with_foreign_names(release: Path, tmp_path: Path) -> None:
    table = (release / "train.tsv").read_text().replace("sentence", "quote").replace("path", "recording")
    (release / "clips" / "list.csv").write_text(table.replace(",", "").replace("\t", ","))
    prepare(
        str(release / "clips" / "list.csv"),
        tmp_path / "out",
        ["min_test_clips=2"],
        column=["text=quote", "audio=recording"],
        language="Italian",
    )
    clips = [clip for name in ("train", "test") for clip in read_manifest(tmp_path / f"out/{name}.jsonl")]
    assert {clip.language for clip in clips} == {"it"} and all(clip.text for clip in clips)
    with pytest.raises(UserError, match="--column quote: names one column only"):
        prepare(str(release), tmp_path / "out", column=["quote"])


@pytest.mark.medium
def test_prepare_a_table_as_the_hint_says(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No header, and cells that a character separates which nobody would guess."""
    lines = (release / "train.tsv").read_text().splitlines()[1:]
    table = release / "clips/list.csv"
    table.write_text("".join(f"{line.replace(chr(9), '^').replace('.flac', '')}\n" for line in lines))
    with pytest.raises(UserError, match="delimiter: CHARACTER or --delimiter CHARACTER"):
        prepare(str(table), tmp_path / "out")
    with pytest.raises(UserError, match=r"header: false or --no-header, and columns: \{audio: 1, text: 2\}"):
        prepare(str(table), tmp_path / "out", delimiter="^")
    column = ["audio=2", "text=3", "language=4"]
    prepare(
        str(table), tmp_path / "out", ["min_test_clips=2"], delimiter="^", header=False, column=column, as_json=True
    )
    result = json.loads(capsys.readouterr().out)
    assert (sum(result["clips"].values()), sum(result["quarantined"].values())) == (8, 0)


def test_inspect_tells_people_and_writes_its_files(
    manifest: str, tiny_en_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect(manifest, base=tiny_en_name, out=tmp_path / "found")
    printed = capsys.readouterr().out
    assert "25, of which 24 usable" in printed and "not_audio" in printed and "█" in printed
    assert [row.id for row in read_quarantine(tmp_path / "found/faults.parquet")] == ["notes"]
    assert (tmp_path / "found/lengths.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "found/inspection.json").read_text())["rows"] == 25


def test_inspect_compares_splits(release: Path, tiny_en_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"has the splits train, dev, test \(say which: --split train"):
        inspect(str(release), base=tiny_en_name)
    inspect(str(release), split="train", against_split="test", base=tiny_en_name, as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert result["rows"] == 8
    assert result["overlap"]["transcript"]["clips"] == 1 and result["overlap"]["audio"]["clips"] == 0
    inspect(str(release / "dev.tsv"), against=str(release), against_split="train", base=tiny_en_name)
    assert "no overlap with" in capsys.readouterr().out


def test_inspect_counts_against_its_own_limits(
    manifest: str, tiny_en_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect(manifest, ["max_audio_s=4", "examples=1"], base=tiny_en_name, as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert result["faults"]["too_long"] > 1 and len(result["fault_examples"]["too_long"]) == 1


@pytest.mark.medium
def test_one_hostile_row_of_each_kind_ended_the_whole_run(
    tmp_path: Path, english_clips: list[Utterance], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line for line, _ in HOSTILE.values()]
    for number, clip in enumerate(english_clips[:12]):
        shutil.copy(str(clip.audio), tmp_path / f"{number}.flac")
        lines.insert(2 * number, json.dumps({"audio": f"{number}.flac", "text": clip.text}))
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, '{"audio": "a\\u0000.wav", "text": "x"}']) + "\n")
    prepare(str(tmp_path / "a.jsonl"), tmp_path / "out", ["min_test_clips=2"])
    expected = Counter(reason for _, reason in HOSTILE.values()) + Counter(missing_file=1)
    assert Counter(row.reason for row in read_quarantine(tmp_path / "out/quarantine.parquet")) == expected
    capsys.readouterr()
    inspect(str(tmp_path / "a.jsonl"), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["usable"]["clips"], found["faults"]) == (len(lines) + 1, 12, expected)


@pytest.mark.parametrize(
    "source",
    [
        *(
            "ftp://127.0.0.1:9/a.csv",
            "webhdfs://127.0.0.1:9/a",
            "github://a:b@/x",
            "dir:///tmp",
            "sftp://127.0.0.1:9/a",
        ),
        *(
            "http://127.0.0.1:9/a.jsonl",
            "zip://a::/tmp/b",
            "simplecache::/etc/passwd",
            "hf:http://127.0.0.1:9/a",
        ),
    ],
)
def test_an_address_that_is_no_storage_is_one_line(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    for verb in (lambda: inspect(source), lambda: prepare(source, tmp_path / "out")):
        with pytest.raises(UserError) as caught:
            verb()
        assert f"{source.removeprefix('hf:').partition(':')[0]}:" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_inspect_counts_in_a_ctc_checkpoints_symbols_and_names_letters_that_it_lacks(
    tmp_path: Path, english_clips: list[Utterance], capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny.write(tmp_path / "base", "wav2vec2-base-960h")
    texts = ("Good day", "Grüße", "many words " * 100)
    rows = [replace(clip, text=text) for clip, text in zip(english_clips[:3], texts, strict=True)]
    write_beside(tmp_path / "mine.jsonl", rows)
    inspect(str(tmp_path / "mine.jsonl"), base=str(base), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["faults"] == {"unknown_letters": 1, "label_needs_more_frames": 1}
    assert found["max_label_tokens"] == len("good day")
    assert {odd["character"]: odd["tokens"] for odd in found["characters"]} == {"ü": 0, "ß": 0}
