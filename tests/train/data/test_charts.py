from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from train.data.charts import draw_lengths

pytestmark = pytest.mark.medium


def pixels(path: Path) -> np.ndarray:
    with av.open(str(path)) as picture:
        return next(picture.decode(video=0)).to_ndarray(format="rgb24")


def test_a_picture_with_bars_where_there_are_clips(tmp_path: Path) -> None:
    draw_lengths(tmp_path / "few.png", [3, 10, 0, 5, *[0] * 56, 0], 0.5, "few")
    draw_lengths(tmp_path / "long.png", [3, 10, 0, 5, *[0] * 56, 9], 0.5, "long")
    few, long = pixels(tmp_path / "few.png"), pixels(tmp_path / "long.png")
    assert few.shape == long.shape and few.shape[1] > few.shape[0] > 400
    blue, red = (0x3B, 0x6E, 0xA5), (0xB5, 0x47, 0x2F)
    assert (few == blue).all(axis=2).sum() > (long == blue).all(axis=2).sum() > 1000  # 2 s wide, and 31 s wide
    assert (few == red).all(axis=2).sum() == 0 < (long == red).all(axis=2).sum()


def test_no_clips_at_all(tmp_path: Path) -> None:
    draw_lengths(tmp_path / "none.png", [0] * 61, 0.5, "none")
    assert pixels(tmp_path / "none.png").size
