from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import whisperfleet.__main__ as command
from asr.models.export import read_export


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "whisperfleet", "export", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_checkpoint_is_written_for_ctranslate2(tiny_en_name: str, tmp_path: Path) -> None:
    done = run(tiny_en_name, str(tmp_path / "out"), "--format", "ctranslate2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["folder"] == str(tmp_path / "out")
    assert told["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    record = read_export(tmp_path / "out")
    assert record is not None and record.quantization == "int8"


@pytest.mark.weights
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["no-such-model", "out"], "no checkpoint 'no-such-model'"),
        (["builtin:tiny.en", ".", "--format", "ctranslate2"], ". exists already"),
        (["builtin:tiny.en", "out", "--quantization", "int8"], "quantization=int8 is not for transformers"),
        (["builtin:tiny.en", "out", "--format", "onnx"], "'builtin:tiny.en' is of the family whisper, which is not"),
    ],
)
def test_a_persons_mistake_is_one_line_and_exit_code_2(
    words: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command.termination, "take", lambda: None)  # the signal is the test run's
    monkeypatch.setattr(sys, "argv", ["whisperfleet", "export", *words])
    with pytest.raises(SystemExit) as ended:
        command.main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith(f"whisperfleet: {complaint}")
    assert err.count("\n") == 1


@pytest.mark.medium
def test_an_unknown_format_is_refused() -> None:
    done = run("builtin:tiny.en", "out", "--format", "tflite")
    assert done.returncode == 2
    assert "tflite" in done.stderr
