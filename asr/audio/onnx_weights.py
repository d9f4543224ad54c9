"""Reads the weights of an ONNX file as arrays, without the packages that run or write such files.

A child that is confined can keep a network of this size as arrays alone. Only what is needed of the format is read
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3): float32 tensors among the graph's initialisers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # of Protocol Buffers: how a field is written
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_GRAPH, _INITIALIZER = 7, 5  # ModelProto.graph, GraphProto.initializer
_DIMS, _TYPE, _NAME, _RAW = 1, 2, 8, 9  # of TensorProto
_FLOAT = 1


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the float32 initialisers of an ONNX file by name. Raises ValueError where it is no such file."""
    try:
        return weights_in(path.read_bytes())
    except (IndexError, ValueError) as error:
        raise ValueError(f"{path} is no ONNX file: {error}") from None


def weights_in(model: bytes) -> dict[str, NDArray[np.float32]]:
    """Return those of an ONNX file's content. Raises IndexError or ValueError where it is none."""
    graphs = [graph for number, graph in _fields(memoryview(model)) if number == _GRAPH]
    return {name: weight for graph in graphs if isinstance(graph, memoryview) for name, weight in _tensors(graph)}


def _tensors(graph: memoryview) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for number, tensor in _fields(graph):
        if number == _INITIALIZER and isinstance(tensor, memoryview):
            name, shape, kind, raw = "", [], 0, b""
            for part, value in _fields(tensor):
                if part == _DIMS:
                    shape += [value] if isinstance(value, int) else list(_packed(value))
                elif part == _TYPE and isinstance(value, int):
                    kind = value
                elif part == _NAME and isinstance(value, memoryview):
                    name = str(value, "utf-8")
                elif part == _RAW and isinstance(value, memoryview):
                    raw = bytes(value)
            if kind == _FLOAT and len(raw) == 4 * math.prod(shape):
                yield name, np.frombuffer(raw, "<f4").astype(np.float32).reshape(shape)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and the value of each field of a message. Raises IndexError, ValueError where it is none."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise ValueError(f"a field of the kind {kind}")
        if at + length > len(message):
            raise IndexError("cut short")
        yield number, message[at : at + length]
        at += length


def _packed(values: memoryview) -> Iterator[int]:
    at = 0
    while at < len(values):
        value, at = _varint(values, at)
        yield value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
