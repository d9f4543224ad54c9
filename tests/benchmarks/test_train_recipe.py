"""What the benchmark makes of the two sides' figures, and how it watches their processes."""

from __future__ import annotations

import json
import os
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from transformers import WhisperProcessor

from asr.data.manifest import read_manifest, write_manifest
from asr.models.checkpoint import find_checkpoint
from asr.utterance import Utterance
from benchmarks.recipe.course import DataCollatorSpeechSeq2SeqWithPadding
from benchmarks.recipe.figures import common_wer, compare, seconds_to, table
from benchmarks.recipe.side import Pages, Side, by_name, spilled, together
from benchmarks.recipe.work import Work
from benchmarks.train_recipe import chosen

NAMED = ("speedup", "wer_ours", "wer_recipe", "peak_memory_ratio", "feature_bytes_on_disk", "data_wait_share")


def curve(*points: tuple[float, float]) -> list[dict[str, float]]:
    return [{"step": step, "wall_s": wall_s, "wer": wer} for step, (wall_s, wer) in enumerate(points, start=1)]


def run(audio_s: float, train_s: float, gigabytes: float, **others: Any) -> dict[str, Any]:
    figures = {
        "audio_s": audio_s,
        "train_s": train_s,
        "wait_s": 0.5,
        "wer": 0.2,
        "wer_full_context": 0.25,
        "startup_s": 20.0,
        "peak_all_bytes": gigabytes * 1e9,
        "peak_process_bytes": gigabytes * 1e9 / 2,
        "feature_bytes": 0,
        "curve": curve((30.0, 0.4), (60.0, 0.2)),
    }
    return figures | others


def work(folder: Path) -> Work:
    return Work(
        base="builtin:tiny.en",
        language="en",
        strategy="lora",
        learning_rate=1e-3,
        steps=4,
        warmup_steps=1,
        save_every_steps=2,
        clips_per_step=2,
        seed=0,
        manifests={"train": "train.jsonl"},
        folder=str(folder),
        lora={"rank": 4, "target_modules": ["q_proj"]},
        pauses=(0, 2),
    )


def test_the_same_wer_is_one_that_each_side_reached() -> None:
    better, worse = curve((10, 0.3), (20, 0.1), (30, 0.15)), curve((100, 0.5), (200, 0.2))
    assert common_wer([better, worse]) == 0.2
    assert seconds_to(better, 0.2) == 20
    assert seconds_to(worse, 0.2) == 200
    assert seconds_to(worse, 0.19) is None


def test_ratios_are_of_all_our_runs_to_the_recipe() -> None:
    ours = [run(100.0, 10.0, 2.0), run(100.0, 30.0, 3.0, wer=0.1)]
    recipe = run(90.0, 90.0, 8.0, feature_bytes=7, curve=curve((500.0, 0.3), (900.0, 0.2)))
    figures = compare(ours, recipe, run(8.0, 16.0, 4.0))
    assert set(NAMED) <= set(figures)
    assert figures["speedup"] == 5.0
    assert figures["wer_ours"] == pytest.approx(0.15)
    assert (figures["peak_memory_ratio"], figures["peak_memory_ratio_checkpointing"]) == (0.375, 0.75)
    assert (figures["feature_bytes_on_disk"], figures["feature_bytes_on_disk_recipe"]) == (0, 7)
    assert figures["data_wait_share"] == 0.025
    assert (figures["wall_s_to_same_wer_ours"], figures["wall_s_to_same_wer_recipe"]) == (60.0, 900.0)
    json.dumps(figures)


def test_the_table_names_what_was_to_be_reached() -> None:
    result = compare([run(100.0, 10.0, 2.0)], run(90.0, 90.0, 8.0), run(8.0, 16.0, 4.0))
    described = {"base": "builtin:base", "strategy": "lora", "utterances_recipe": 192, "clip_s": 2.6}
    console = Console(width=120, file=StringIO())
    console.print(table(result | described | {"preprocess_efficiency": 0.83}))
    shown = console.file.getvalue()
    for cell in ("10.00", ">= 8", "<= 0.5", "< 2 %", "0.83"):
        assert cell in shown


def test_shared_pages_count_once() -> None:
    status = "Name:\tray::idle\nVmHWM:\t9 kB\nRssAnon:\t  10 kB\nRssFile:\t  4 kB\nRssShmem:\t 2 kB\n"
    pages = Pages.of(status)
    assert pages == Pages("ray::idle", 10240, 4096, 2048)
    assert pages.resident == 16384
    others = [Pages("ray::idle", 100, 5000, 1), Pages("raylet", 1, 0, 3000)]
    assert together([pages, *others]) == 10240 + 100 + 1 + 5000 + 3000
    assert by_name([pages, *others]) == {"ray::idle": 10340, "raylet": 1}
    assert together([]) == 0
    assert Pages.of("Name:\tzombie\n") == Pages("zombie", 0, 0, 0)


def test_spilled_objects_are_counted_wherever_ray_put_them(tmp_path: Path) -> None:
    for session in ("session_1", "session_2"):
        folder = tmp_path / "ray" / session / "ray_spilled_objects_0a"
        folder.mkdir(parents=True)
        (folder / "object").write_bytes(b"12345")
    (tmp_path / "ray" / "session_1" / "log").write_bytes(b"no object")
    assert spilled(tmp_path) == 10


def test_both_sides_meet_each_chosen_clip_once(tmp_path: Path) -> None:
    manifest = tmp_path / "train.jsonl"
    clips = [Utterance(str(number), str(tmp_path / "clip.flac"), "Yes.", 1.0) for number in range(20)]
    write_manifest(manifest, clips)
    some = chosen(manifest, 16)
    assert len({clip.id for clip in some}) == 16
    assert read_manifest(manifest) == some
    assert len(chosen(manifest, 99)) == 16


def test_work_survives_the_way_to_another_process(tmp_path: Path) -> None:
    assert Work.read(work(tmp_path / "recipe").write()) == work(tmp_path / "recipe")


def test_a_side_pauses_goes_on_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    (tmp_path / "taking_turns.py").write_text(
        "from benchmarks.recipe.work import Clock, say, wait_for_word\n"
        "clock = Clock()\n"
        "say('phase', name='training')\n"
        "before = clock.seconds\n"
        "with clock.stopped():\n    wait_for_word()\n"
        "ballast = bytearray(50_000_000)\n"
        "with clock.stopped():\n    wait_for_word()\n"
        "say('result', answer=42, seconds=clock.seconds - before)\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).resolve().parents[2])])
    with Side(
        "taking_turns", work(tmp_path / "turns"), {"RAY_TMPDIR": str(tmp_path), "PYTHONPATH": paths}, told.append
    ) as side:
        side.until_pause()
        side.go()
        side.until_pause()
        while side.memory.peaks["training"].all < 50_000_000:
            pass
        side.go()
        result = side.result()
    assert result["answer"] == 42
    assert result["peak_process_bytes"] >= 50_000_000
    assert told[0] == "turns: phase name=training"


def test_a_side_that_fails_shows_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text("raise SystemExit('out of luck')\n")
    environment = {"RAY_TMPDIR": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    with (
        Side("failing", work(tmp_path / "short"), environment, lambda _: None) as side,
        pytest.raises(RuntimeError, match=r"short failed with exit code 1:\nout of luck"),
    ):
        side.until_pause()


@pytest.mark.medium
def test_the_recipe_collates_as_published() -> None:
    processor = WhisperProcessor.from_pretrained(find_checkpoint("builtin:tiny.en").folder)
    rows = [
        dict(processor(audio=np.zeros(1600, np.float32), sampling_rate=16000, text=text))
        for text in ("Yes.", "No, no.")
    ]
    batch = DataCollatorSpeechSeq2SeqWithPadding(processor)(rows)
    assert batch["input_features"].shape == (2, 80, 3000)
    lengths = [len(row["labels"]) for row in rows]
    start = processor.tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    assert batch["labels"][:, 0].tolist() == [start, start]  # the model puts a second one before it
    assert batch["labels"].shape == (2, max(lengths))
    assert int((batch["labels"] == -100).sum()) == max(lengths) - min(lengths)
