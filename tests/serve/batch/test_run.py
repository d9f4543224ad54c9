from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, decode, encode_flac
from asr.errors import UserError
from asr.inference.engine import Engine
from asr.inference.formats import as_srt, as_text
from asr.inference.pipeline import DecodingOptions
from asr.inference.transcribe import transcribe_recording
from asr.io import storage
from asr.sound import EACH, SoundChoice
from asr.utterance import Utterance
from serve.batch.job import BatchJob
from serve.batch.output_folder import Format
from serve.batch.progress import Done
from serve.batch.run import transcribe_all
from serve.config import ServeConfig
from serve.replica.engine_loader import load_engine
from tests.asr.sounds import encoded, wav16
from tests.serve.fakes import FakeEngine, babble, voice

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def recordings(english_clips: list[Utterance], tmp_path: Path) -> Path:
    """Short clips, a recording of several windows, a silent one, a broken one and an empty one."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    waveforms = [decode(str(clip.audio)) for clip in english_clips[3:10]]  # half a minute, decoded at first attempt
    for number, waveform in enumerate(waveforms[:2]):
        (folder / f"{number}.flac").write_bytes(encode_flac(waveform))
    (folder / "deep/long.flac").write_bytes(encode_flac(np.concatenate(waveforms)))
    (folder / "quiet.flac").write_bytes(encode_flac(np.zeros(4 * SAMPLE_RATE, np.float32)))
    (folder / "slides.pdf").write_bytes(b"x")
    (folder / "broken.wav").write_text("these are words, not sounds")
    (folder / "empty.mp3").write_bytes(b"")
    return folder


def fake(folder: Path) -> Callable[[ServeConfig], Engine]:
    def make_engine(config: ServeConfig) -> Engine:
        return FakeEngine(config, folder)

    return make_engine


def decoded(folder: Path) -> int:
    """How many windows the fake engine was given."""
    return sum(len(json.loads(line)) for line in (folder / "batches").read_text().splitlines())


@pytest.mark.slow
def test_the_words_are_those_of_in_process_transcription(
    ray_cluster: None, tiny_en_name: str, recordings: Path, tmp_path: Path
) -> None:
    config = ServeConfig(model=tiny_en_name, engine="torch", cpus_each=1)
    out = tmp_path / "out"
    seen: list[Done] = []
    summary = transcribe_all(
        BatchJob([str(recordings)], str(out), [Format.TXT, Format.SRT], config), on_progress=seen.append
    )
    assert (summary.files, summary.transcribed, summary.failed, summary.skipped) == (6, 4, 2, 0)
    assert (summary.not_audio, summary.notes) == ({".pdf": 1}, ["left out, not audio by their names: 1 .pdf"])
    engine = load_engine(config)
    for name in ("0", "1", "deep/long", "quiet"):
        path = recordings / f"{name}.flac"
        heard = transcribe_recording(engine, path, DecodingOptions("en", timestamps=True))
        assert (out / f"{name}.srt").read_text() == as_srt(heard)
        assert (out / f"{name}.txt").read_text() == as_text(heard)
        assert (len(heard.text.split()) > 5) == (name != "quiet")
    with open(out / "failures.csv", newline="") as file:
        assert {Path(row["input"]).name: row["reason"] for row in csv.DictReader(file)} == {
            "broken.wav": "not_audio",
            "empty.mp3": "empty_file",
        }
    assert (seen[0].files, seen[-1].files, seen[-1].share) == (0, 6, pytest.approx(1.0))
    assert summary.audio_s == pytest.approx(sum(len(decode(str(path))) for path in recordings.rglob("*.flac")) / 16_000)


@pytest.mark.slow
def test_what_was_interrupted_goes_on_and_no_other_run_or_model_mixes_its_words_in(
    ray_cluster: None, tmp_path: Path
) -> None:
    for number in range(8):
        (tmp_path / f"{number}.flac").write_bytes(voice(3.0 + number))
    out = tmp_path / "out"
    job = BatchJob([f"{tmp_path}/*.flac"], str(out), [Format.TXT], ServeConfig(model="fake", max_batch_audio_s=30.0))
    command = [
        "-m",
        "whisperfleet",
        "transcribe",
        *job.inputs,
        "--model",
        "some/model",
        "--out",
        str(out),
        "--overwrite",
    ]
    others: list[subprocess.CompletedProcess[str]] = []

    def begin_another_and_stop(done: Done) -> None:  # while the first one runs
        if not others:
            others.append(subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120))
        if done.files == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transcribe_all(job, on_progress=begin_another_and_stop, make_engine=fake(tmp_path))
    (refusal,) = others[0].stderr.splitlines()
    assert (others[0].returncode, others[0].stdout) == (2, "")
    assert "another transcribe writes into this folder" in refusal
    written = {path: path.stat().st_mtime_ns for path in out.glob("*.txt")}
    assert len(written) == 3
    assert {path.name for path in out.iterdir()} - {path.name for path in written} == {
        "failures.csv",
        "transcripts.json",
    }

    (tmp_path / "batches").unlink()
    summary = transcribe_all(job, make_engine=fake(tmp_path))
    assert (summary.transcribed, summary.skipped, decoded(tmp_path)) == (5, 3, 5)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert len(list(out.glob("*.txt"))) == 8
    assert transcribe_all(job, make_engine=fake(tmp_path)).skipped == 8
    assert decoded(tmp_path) == 5

    other = replace(job, config=ServeConfig(model="other"))
    with pytest.raises(UserError, match="model=fake"):
        transcribe_all(other, make_engine=fake(tmp_path))
    summary = transcribe_all(replace(other, overwrite=True), make_engine=fake(tmp_path))
    assert (summary.transcribed, decoded(tmp_path)) == (8, 5 + 8)


@pytest.mark.slow
def test_into_a_bucket_goes_each_channel_of_a_call_and_silence_in_place_of_what_is_damaged(
    ray_cluster: None, s3: str, tmp_path: Path
) -> None:
    place, out = storage.join(s3, "bulk"), storage.join(s3, "written")
    storage.write_bytes(storage.join(place, "deep", "a.flac"), voice(3.0))
    call = np.zeros((20 * SAMPLE_RATE, 2), np.float32)
    call[: 3 * SAMPLE_RATE, 0], call[10 * SAMPLE_RATE : 14 * SAMPLE_RATE, 1] = babble(3.0), babble(4.0)
    (tmp_path / "call.wav").write_bytes(wav16(call, channels=2))
    mp3 = encoded(tmp_path / "damaged.mp3", babble(20.0), "libmp3lame", "mp3", SAMPLE_RATE)
    whole = mp3.read_bytes()
    middle = len(whole) // 2
    mp3.write_bytes(whole[:middle] + bytes(range(256)) * 4 + whole[middle + 1024 :])
    job = BatchJob(
        [place, str(tmp_path / "call.wav"), str(mp3)],
        out,
        [Format.JSON, Format.VTT],
        ServeConfig(model="fake"),
        sound=SoundChoice(channel=EACH),
    )
    summary = transcribe_all(job, make_engine=fake(tmp_path))
    assert (summary.transcribed, summary.failed, summary.warned) == (3, 0, 1)
    assert summary.audio_s == pytest.approx(3.0 + 20.0 * 2 + 20.0, abs=0.5)

    def written(name: str) -> str:
        return storage.read_text(storage.join(out, *name.split("/")))

    assert json.loads(written("deep/a.json"))["text"] == "3"
    body = json.loads(written("call.json"))
    assert [(segment["channel"], round(segment["start"])) for segment in body["segments"]] == [(0, 0), (1, 10)]
    assert "<v channel 1>" in written("call.vtt")
    body = json.loads(written("damaged.json"))
    assert 0.0 < body["audio"]["damaged_s"] < 3.0 and body["warnings"]
    table = written("failures.csv")
    assert transcribe_all(job, make_engine=fake(tmp_path)).skipped == 3
    assert written("failures.csv") == table
    (row,) = csv.DictReader(table.splitlines())
    assert (row["input"], row["reason"], row["kind"]) == (str(mp3), "damaged", "warning")
