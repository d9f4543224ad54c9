"""Children that decode, started where a user has files with our packages' names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from asr.audio.decode import SAMPLE_RATE, encode_flac
from tests.litter import litter

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import whisperfleet
from asr.audio import sandbox
from asr.audio.decode import AudioLimits
from asr.io.parquet.row_groups import open_parquet
print(len(sandbox.decode("a.flac", AudioLimits()).waveform))
print(open_parquet("a.parquet").file.metadata.num_rows)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "path"), [(["mine.py"], ""), (["-m", "mine"], ""), (["-P", "mine.py"], "."), (["-c", CODE], "")]
)
def test_a_user_s_asr_py_was_run_in_place_of_ours(words: list[str], path: str, tmp_path: Path) -> None:
    (litter(tmp_path) / "mine.py").write_text(CODE)
    (tmp_path / "a.flac").write_bytes(encode_flac(np.zeros(SAMPLE_RATE, np.float32)))
    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "a.parquet")
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, [path]), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [str(SAMPLE_RATE), "2"], "")
