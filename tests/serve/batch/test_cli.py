from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer

from asr.audio.decode import decode
from asr.errors import UserError
from asr.inference.recording import Recording
from asr.inference.transcribe import transcribe as in_process
from asr.scoring.error_rates import score
from asr.utterance import Utterance
from serve.batch.cli import transcribe
from serve.batch.inputs import find
from serve.batch.job import BatchJob
from serve.batch.output_folder import Folder, Format
from serve.config import ServeConfig
from serve.replica.engine_loader import load_engine
from tests.asr.models.ctc import tiny
from tests.asr.sounds import wav16
from tests.litter import litter

pytestmark = pytest.mark.usefixtures("one_thread")


BLOCK = 8  # windows that come back together: a run over more of them can be ended between two


def test_one_file_is_printed(
    tiny_en_name: str, english_clips: list[Utterance], capsys: pytest.CaptureFixture[str]
) -> None:
    transcribe([str(english_clips[0].audio)], tiny_en_name)
    assert len(capsys.readouterr().out.split()) >= 8
    transcribe([str(english_clips[0].audio)], tiny_en_name, formats=[Format.VTT])
    assert capsys.readouterr().out.startswith("WEBVTT\n\n00:00:0")


def test_it_goes_on_after_a_bad_file_but_does_not_end_well(
    tiny_en_name: str, english_clips: list[Utterance], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = f"{tmp_path}/gone.wav", str(english_clips[0].audio)
    with pytest.raises(UserError, match=r"gone\.wav: no such file"):
        transcribe([bad, good], tiny_en_name, language="en", as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert set(row) == {"file", "text", "language", "duration_s", "seconds", "warnings"}
    assert (row["file"], row["language"]) == (good, "en")


def test_what_is_left_out_of_a_folder_is_told(
    tiny_en_name: str, english_clips: list[Utterance], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mka").write_bytes(Path(str(english_clips[0].audio)).read_bytes())
    for name in ("slides.pdf", "a.txt"):
        (tmp_path / name).write_bytes(b"x")
    transcribe([str(tmp_path)], tiny_en_name, language="eng", as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["file"].endswith("a.mka")
    left_out, computed = printed.err.splitlines()
    assert left_out == "left out, not audio by their names: 1 .pdf, 1 .txt"
    assert computed == f"{tiny_en_name}: whisper, ctranslate2, int8, each window padded to 30 s"


def test_json_that_is_printed_has_the_words_that_were_asked_for(
    tiny_en_name: str, english_clips: list[Utterance], capsys: pytest.CaptureFixture[str]
) -> None:
    transcribe([str(english_clips[0].audio)], tiny_en_name, formats=[Format.JSON], words=True, as_json=True)
    row = json.loads(capsys.readouterr().out)
    assert row["file"] == str(english_clips[0].audio) and row["audio"]["track"] == 0 and row["segments"]
    assert " ".join(word["word"].strip() for word in row["words"]) == row["text"]


def test_what_cannot_be_printed_is_a_persons_mistake() -> None:
    with pytest.raises(UserError, match="--json prints no srt"):
        transcribe(["a.wav"], "builtin:tiny.en", formats=[Format.SRT], as_json=True)
    with pytest.raises(UserError, match="--out"):
        transcribe(["a.wav", "b.wav"], "builtin:tiny.en", formats=[Format.SRT])
    with pytest.raises(UserError, match="--out"):
        transcribe(["a.wav"], "builtin:tiny.en", formats=[Format.SRT, Format.TXT])
    with pytest.raises(UserError, match="--overwrite needs --out"):
        transcribe(["a.wav"], "builtin:tiny.en", overwrite=True)
    with pytest.raises(UserError, match="channel is one of auto, mix, left, right, each"):
        transcribe(["a.wav"], "builtin:tiny.en", channel="front")


def test_the_chosen_sound_is_printed_and_what_is_to_be_known_about_it_is_told_beside(
    tiny_en_name: str, english_clips: list[Utterance], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [decode(str(clip.audio)) for clip in english_clips[:2]]
    call = np.zeros((max(map(len, said)), 2), np.float32)
    for number, waveform in enumerate(said):
        call[: len(waveform), number] = waveform
    path = tmp_path / "call.wav"
    path.write_bytes(wav16(call, channels=2))
    references = [clip.text for clip in english_clips[:2]]
    transcribe([str(path)], tiny_en_name, channel="right")
    assert score(references[1:], [capsys.readouterr().out], "normalised", "en").rate < 0.3
    transcribe([str(path)], tiny_en_name, channel="each", formats=[Format.SRT])
    assert {"channel 0:", "channel 1:"} <= {line[:10] for line in capsys.readouterr().out.splitlines()}
    path.write_bytes(wav16(np.stack([said[0], -said[0]], axis=1), channels=2))
    transcribe([str(path)], tiny_en_name)
    printed = capsys.readouterr()
    assert score(references[:1], [printed.out], "normalised", "en").rate < 0.3
    assert "cancel each other" in printed.err and "cancel" not in printed.out


@pytest.mark.slow
def test_a_folder_is_filled_and_a_failure_is_told(
    ray_cluster: None,
    tiny_en_name: str,
    english_clips: list[Utterance],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [str(clip.audio) for clip in english_clips[:2]]
    with pytest.raises(typer.Exit) as ended:
        transcribe([*files, f"{tmp_path}/gone.wav"], tiny_en_name, str(tmp_path / "out"), as_json=True)
    assert ended.value.exit_code == 1
    summary = json.loads(capsys.readouterr().out)
    assert (summary["transcribed"], summary["failed"], summary["out"]) == (2, 1, str(tmp_path / "out"))
    engine = load_engine(ServeConfig(model=tiny_en_name))
    said = {Path(file).stem: f"{in_process(engine, Path(file)).text}\n" for file in files}
    assert {path.stem: path.read_text() for path in (tmp_path / "out").glob("*.txt")} == said
    transcribe(files, tiny_en_name, str(tmp_path / "out"))
    assert "0 of 2 files transcribed" in capsys.readouterr().out


@pytest.mark.long
def test_a_killed_run_goes_on(
    ray_cluster: None,
    tiny_en_name: str,
    english_clips: list[Utterance],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first has a process and a Ray of its own, as at a terminal; both are killed with the first transcripts."""
    files = [tmp_path / "in" / f"{number}.flac" for number in range(BLOCK + BLOCK)]
    files[0].parent.mkdir()
    for file, clip in zip(files, english_clips, strict=False):
        file.symlink_to(str(clip.audio))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "whisperfleet", "transcribe", str(tmp_path / "in"), "--model", tiny_en_name]
    command += ["--out", str(out), "--engine", "torch", "--json"]
    here = litter(tmp_path / "here")
    with subprocess.Popen(command, cwd=here, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 240
        while not list(out.glob("*.txt")) and time.monotonic() < until:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    written = {path: path.stat().st_mtime_ns for path in out.glob("*.txt")}
    assert 0 < len(written) < len(files)
    transcribe([str(tmp_path / "in")], tiny_en_name, str(out), engine="torch", as_json=True)
    summary = json.loads(capsys.readouterr().out)
    assert summary["skipped"] == len(written)
    assert summary["transcribed"] == len(files) - len(written)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert all(path.read_text().strip() for path in out.glob("*.txt"))


def test_what_a_model_cannot_do_was_told_after_its_weights_were_loaded(
    random_checkpoint: Path,
    english_clips: list[Utterance],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it had to be exported first, minutes later; and with --out after Ray's start."""
    monkeypatch.setattr("serve.replica.engine_loader.load_engine", lambda config: pytest.fail("loaded"))
    monkeypatch.setattr("serve.batch.run.ray_session", lambda address: pytest.fail("Ray"))
    clip, out = [str(english_clips[0].audio)], str(tmp_path / "out")
    letters = str(tiny.write(tmp_path / "letters", "wav2vec2-large-lv60"))
    for place in (None, out):
        with pytest.raises(UserError, match="cannot translate"):
            transcribe(clip, letters, place, task="translate")
        with pytest.raises(UserError, match="reads no prompt"):
            transcribe(clip, letters, place, prompt="Digium")
        with pytest.raises(UserError, match="takes no keywords"):
            transcribe(clip, str(random_checkpoint), place, keywords=["Digium"])
        with pytest.raises(UserError, match="knows English only, not Dhivehi"):
            transcribe(clip, str(random_checkpoint), place, language="dv")


def test_overwrite_removed_the_transcripts_before_what_was_asked_was_refused(
    english_clips: list[Utterance], tmp_path: Path
) -> None:
    letters = str(tiny.write(tmp_path / "letters", "wav2vec2-large-lv60"))
    clip, out = str(english_clips[0].audio), tmp_path / "out"
    job = BatchJob([clip], str(out), [Format.TXT], ServeConfig(model=letters))
    folder = Folder(str(out), job.settings(), job.formats)
    (one,) = find([clip]).inputs
    folder.open([one])
    folder.write(one, Recording(1.0, None, (), ()))
    (written,) = out.glob("*.txt")
    with pytest.raises(UserError, match="cannot translate"):
        transcribe([clip], letters, str(out), task="translate", overwrite=True)
    assert written.exists()
