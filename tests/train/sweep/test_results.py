from __future__ import annotations

import csv
from pathlib import Path

import pytest
from rich.console import Console

from tests.train.sweep.test_record import record
from train.sweep import results
from train.sweep.record import Report, SweepRecord


@pytest.fixture
def done(tmp_path: Path) -> SweepRecord:
    made = record(tmp_path)
    for outcome, status, rates in zip(
        made.outcomes, ("finished", "stopped", "failed"), ((0.5, 0.3), (0.4,), ()), strict=True
    ):
        outcome.status = status  # type: ignore[assignment]
        for step, rate in enumerate(rates, 1):
            outcome.take(Report(2 * step, rate, 0.25 * step))
    made.outcomes[2].error = "step 3: the loss is nan"
    return made


def test_the_table_is_for_people(done: SweepRecord) -> None:
    console = Console(width=120, record=True, markup=False)
    console.print(results.table(done))
    lines = [line for line in console.export_text().splitlines() if "00" in line]
    assert [line.split()[1] for line in lines] == ["000", "001", "002"]
    assert "30.0%" in lines[0] and "finished" in lines[0] and "0.500" in lines[0]
    assert "stopped early" in lines[1]
    assert "the loss is nan" in lines[2]


def test_the_summary_is_for_machines(done: SweepRecord) -> None:
    found = results.summary(done)
    assert (found["best"]["trial"], found["best"]["wer"], found["best"]["step"]) == ("000", 0.3, 4)
    assert found["best"]["artifact"] == f"{done.uri}/best"
    assert found["device_hours"] == 0.75
    assert [row["status"] for row in found["trials"]] == ["finished", "stopped", "failed"]


@pytest.mark.medium
def test_files_are_written_beside_the_trials(done: SweepRecord) -> None:
    results.write(done)
    with Path(done.uri, results.TABLE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["trial"], row["lora.rank"], row["wer"]) for row in rows] == [
        ("000", "1", "0.3"),
        ("001", "2", "0.4"),
        ("002", "3", ""),
    ]
    assert Path(done.uri, results.PICTURE).read_bytes().startswith(b"\x89PNG")


def test_the_best_artifact_is_linked_and_linked_anew(done: SweepRecord) -> None:
    for name in ("000", "001"):
        folder = Path(done.uri, "trials", name, "artifact")
        folder.mkdir(parents=True)
        (folder / "card.json").write_text(name)
    best = Path(results.link_best(done))
    assert (best / "card.json").read_text() == "000"
    done.outcomes[1].status = "finished"
    done.outcomes[1].take(Report(4, 0.1))
    assert Path(results.link_best(done), "card.json").read_text() == "001"


def test_at_an_address_the_best_artifact_is_copied(done: SweepRecord, s3: str) -> None:
    import asr.io.storage as storage

    done.uri = storage.join(s3, "swept")
    storage.write_text(storage.join(done.uri, "trials", "000", "artifact", "card.json"), "000")
    assert storage.read_text(storage.join(results.link_best(done), "card.json")) == "000"
