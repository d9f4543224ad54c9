from __future__ import annotations

from pathlib import Path

import pytest

from asr.errors import UserError
from asr.io import storage
from asr.utterance import Utterance
from tests.train.checks.doctored import subject
from train.checks.place import cluster, folder, machine


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path, english_clips: list[Utterance]) -> None:
    checked = subject(tmp_path, "builtin:tiny.en", english_clips[:1], f"run.folder={tmp_path / 'new' / 'runs'}")
    outcome = folder(checked)
    assert outcome.state == "ok"
    assert "GB free" in outcome.detail
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio", "train.jsonl"]


def test_a_folder_that_is_there_keeps_its_files(tmp_path: Path, english_clips: list[Utterance]) -> None:
    checked = subject(tmp_path, "builtin:tiny.en", english_clips[:1])
    (tmp_path / "runs" / "whisper").mkdir(parents=True)
    (tmp_path / "runs" / "whisper" / "run.json").write_text("{}")
    assert folder(checked).state == "ok"
    assert [path.name for path in (tmp_path / "runs" / "whisper").iterdir()] == ["run.json"]


def test_a_folder_that_cannot_be_written(tmp_path: Path, english_clips: list[Utterance]) -> None:
    (tmp_path / "notes").write_text("a file, in which there can be no folder")
    with pytest.raises(UserError, match="notes"):
        folder(subject(tmp_path, "builtin:tiny.en", english_clips[:1], f"run.folder={tmp_path / 'notes'}"))
    with pytest.raises(UserError, match=r"s3://no-such-bucket|scheme|address|cannot"):
        folder(subject(tmp_path, "builtin:tiny.en", english_clips[:1], "run.folder=gopher://no-such-bucket/runs"))


def test_a_folder_at_an_address(tmp_path: Path, english_clips: list[Utterance]) -> None:
    checked = subject(tmp_path, "builtin:tiny.en", english_clips[:1], "run.folder=memory://check/runs")
    assert folder(checked).detail == "memory://check/runs/whisper"
    assert storage.kind("memory://check") == ""


def test_a_finished_run_is_in_the_way(tmp_path: Path, english_clips: list[Utterance]) -> None:
    checked = subject(tmp_path, "builtin:tiny.en", english_clips[:1])
    (tmp_path / "runs" / "whisper" / "artifact").mkdir(parents=True)
    (tmp_path / "runs" / "whisper" / "artifact" / "card.json").write_text("{}")
    with pytest.raises(UserError, match="this run is finished"):
        folder(checked)


def test_what_the_machines_must_have(tmp_path: Path, english_clips: list[Utterance]) -> None:
    outcome = machine(subject(tmp_path, "builtin:tiny.en", english_clips[:1], "parallelism=zero2", "precision=bf16"))
    assert outcome.detail == "lora, zero2, bf16 on CPU"
    with pytest.raises(UserError, match=r"strategy=qlora .* takes a GPU"):
        machine(subject(tmp_path, "builtin:tiny.en", english_clips[:1], "strategy=qlora"))
    amended = ["parallelism=zero2", "deepspeed.zero_optimization.stage=3"]
    with pytest.raises(UserError, match="contradicts parallelism"):
        machine(subject(tmp_path, "builtin:tiny.en", english_clips[:1], *amended))


@pytest.mark.usefixtures("ray_cluster")
def test_a_cluster_that_is_too_small(tmp_path: Path, english_clips: list[Utterance]) -> None:
    assert cluster(subject(tmp_path, "builtin:tiny.en", english_clips[:1])).state == "ok"
    many = ["workers.count=64", "batching.micro_batches_per_step=64", "workers.cpus_each=64"]
    with pytest.raises(UserError, match="training needs 4096 CPUs"):
        cluster(subject(tmp_path, "builtin:tiny.en", english_clips[:1], *many))
    with pytest.raises(UserError, match="training needs 1 GPUs"):
        cluster(subject(tmp_path, "builtin:tiny.en", english_clips[:1], "workers.gpu=true"))
