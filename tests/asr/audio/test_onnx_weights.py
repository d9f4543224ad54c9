from __future__ import annotations

from contextlib import suppress
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from asr.audio.onnx_weights import read_weights, weights_in

SILERO = Path(str(distribution("silero-vad").locate_file("silero_vad/data/silero_vad_16k_sequence.onnx")))


def test_the_weights_are_those_that_onnx_itself_reads() -> None:
    expected = {each.name: numpy_helper.to_array(each) for each in onnx.load(SILERO).graph.initializer}
    read = read_weights(SILERO)
    assert set(read) == {name for name, weight in expected.items() if weight.dtype == np.float32} != set()
    for name, weight in read.items():
        np.testing.assert_array_equal(weight, expected[name])


def test_packed_shapes_are_read_and_other_types_are_left_out(tmp_path: Path) -> None:
    tensors = [
        numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "kept"),
        numpy_helper.from_array(np.arange(6), "whole numbers"),
        helper.make_tensor("as numbers, not as bytes", TensorProto.FLOAT, [2], [1.0, 2.0]),
    ]
    path = tmp_path / "small.onnx"
    path.write_bytes(helper.make_model(helper.make_graph([], "g", [], [], tensors)).SerializeToString())
    found = {name: weight.tolist() for name, weight in read_weights(path).items()}
    assert found == {"kept": [[0, 1, 2], [3, 4, 5]]}


@given(st.binary(max_size=200), st.integers(0, 1_200_000), st.binary(min_size=1, max_size=8))
def test_whatever_a_file_holds_it_is_read_or_refused(content: bytes, at: int, spoilt: bytes) -> None:
    whole = SILERO.read_bytes()[:8000]
    at %= len(whole)
    for each in (content, whole[:at] + spoilt + whole[at + len(spoilt) :]):
        with suppress(IndexError, ValueError):
            assert isinstance(weights_in(each), dict)


def test_a_file_that_is_cut_short_is_no_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(SILERO.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="no ONNX file"):
        read_weights(path)
