"""The README's example of the library, as a program of a user's own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asr.utterance import Utterance
from tests.litter import litter
from tests.manifests import write_beside

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.weights
def test_the_readme_s_example_runs(english_clips: list[Utterance], tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    (example,) = (block for block in blocks if "import whisperfleet" in block)
    shutil.copy(str(english_clips[0].audio), tmp_path / "meeting.mp3")
    write_beside(tmp_path / "test.jsonl", english_clips[:3])
    (litter(tmp_path) / "train.py").write_text(example)  # a name that ours has too, beside others
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "train.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words, score, url = done.stdout.splitlines()
    assert len(words.split()) > 5
    assert 0.0 <= float(score) < 1.0
    assert url.startswith("http://127.0.0.1:")
