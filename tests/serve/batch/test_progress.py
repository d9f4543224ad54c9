from __future__ import annotations

import pytest

from serve.batch import progress
from serve.batch.progress import Done, shown


def test_a_line_says_files_hours_speed_and_what_is_left() -> None:
    done = Done(files=12, of=48, failed=1, audio_s=7200.0, seconds=600.0, share=0.25)
    assert str(done) == "12 of 48 files, 1 failed, 2.00 h of audio, 12.0 audio s/s, 0:30:00 left"


def test_nothing_is_promised_before_anything_is_known() -> None:
    assert str(Done(0, 3, 0, 0.0, 5.0, 0.0)) == "0 of 3 files, 0.00 h of audio, loading the model"


def test_a_log_file_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with shown() as on_progress:
        for second in range(0, 61, 5):
            clock[0] = float(second)
            on_progress(Done(second, 60, 0, 100.0, float(second), second / 60))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["15", "30", "45", "60"]
