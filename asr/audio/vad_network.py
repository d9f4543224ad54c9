"""Network of silero-vad in NumPy: the probability of speech in each frame of 32 ms, many frames at once.

The weights are those of the package's ONNX file. onnxruntime takes 3 times the core time for it, most of it in
convolutions over four columns at a time; here a convolution is one product of matrices over all frames. And this runs
where a runtime does not belong: in a confined child, with nothing but arrays.

Legend: T frames, P positions of a window within a frame, F frequencies, C channels, H hidden units, B blocks at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from asr.audio.onnx_weights import read_weights

Array = NDArray[np.float32]
State = tuple[Array, Array]
"""State of the network between frames, h and c [1, 1, H]."""

HIDDEN = 128
WINDOW, HOP, POSITIONS = 256, 128, 4  # of the spectra in a frame
_HALF = WINDOW // 2
_SHAPES = {
    "stft.forward_basis_buffer": (2 * (_HALF + 1), 1, WINDOW),
    "encoder.0.weight": (128, _HALF + 1, 3),
    "encoder.1.weight": (64, 128, 3),
    "encoder.2.weight": (64, 64, 3),
    "encoder.3.weight": (128, 64, 3),
    "output.weight": (1, HIDDEN, 1),
    "onnx::LSTM_209": (1, 4 * HIDDEN, HIDDEN),
    "onnx::LSTM_210": (1, 4 * HIDDEN, HIDDEN),
    "onnx::LSTM_211": (1, 8 * HIDDEN),
}
# A step of it is some matrices of a size that a core's cache holds.
_FRAMES_AT_ONCE = 128


class VoiceNetwork:
    """The network with its weights. It keeps no state between calls, so that threads may share it.

    Raises ValueError for weights of another network.
    """

    def __init__(self, weights: Mapping[str, Array]) -> None:
        for name, shape in _SHAPES.items():
            if name not in weights or weights[name].shape != shape:
                raise ValueError(f"silero-vad has other weights than expected: {name} is not {shape}")
        self._make_spectrum(weights["stft.forward_basis_buffer"][:, 0])
        self._convolutions = [_taps(weights[f"encoder.{number}.weight"]) for number in range(4)]
        # Of a single position two neighbours are padding: of the third convolution the first, of the last both.
        self._convolutions[2] = self._convolutions[2][64:]
        self._convolutions[3] = self._convolutions[3][64:128]
        self._biases = [weights[f"encoder.{number}.bias"] for number in range(4)]
        self._make_recurrence(weights["onnx::LSTM_209"][0], weights["onnx::LSTM_210"][0], weights["onnx::LSTM_211"][0])
        self._output = 0.5 * weights["output.weight"][0, :, 0]  # the hidden state is twice itself here
        self._output_bias = weights["output.bias"][0]

    def judged(self, block: Array, state: State) -> tuple[Array, Array, Array]:
        """Return the probabilities [T] of a block's frames [T, context + frame], and the state h and c after it."""
        gates = np.concatenate(
            [self._gates(block[at : at + _FRAMES_AT_ONCE]) for at in range(0, len(block), _FRAMES_AT_ONCE)]
        )
        hidden, cell = self._recur(gates, state)
        odds = np.maximum(hidden, 0.0) @ self._output + self._output_bias
        probabilities = 1.0 / (1.0 + np.exp(-odds))
        return probabilities, 0.5 * hidden[-1].reshape(1, 1, HIDDEN), cell.reshape(1, 1, HIDDEN)

    def _make_spectrum(self, basis: Array) -> None:
        """Fold the Fourier basis: its cosines are even about the middle of a window, its sines odd."""
        cosines, sines = basis[: _HALF + 1], basis[_HALF + 1 :]
        # Sample n of a window and 256 - n share a column; 0 and 128 stand alone.
        self._cosines = np.ascontiguousarray(cosines[:, : _HALF + 1].T)
        self._sines = np.ascontiguousarray(sines[:, 1:_HALF].T)
        mirror = slice(WINDOW - 1, _HALF, -1)
        is_folded = np.abs(cosines[:, 1:_HALF] - cosines[:, mirror]).max() < 1e-6
        if not (is_folded and np.abs(sines[:, 1:_HALF] + sines[:, mirror]).max() < 1e-6):
            raise ValueError("silero-vad has another Fourier basis than expected")

    def _make_recurrence(self, of_input: Array, of_hidden: Array, biases: Array) -> None:
        """Order the gates for ``_recur``: from i, o, f, c to o, i, f, c.

        1 / (1 + exp(-x)) is (1 + tanh(x / 2)) / 2: with o, i and f halved, all four are one tanh.
        """
        half = np.repeat(np.array([0.5, 0.5, 0.5, 1.0], np.float32), HIDDEN)
        order = np.concatenate([np.arange(HIDDEN) + HIDDEN * gate for gate in (1, 0, 2, 3)])
        bias = biases[: 4 * HIDDEN] + biases[4 * HIDDEN :]
        self._of_input = np.ascontiguousarray((of_input[order] * half[:, None]).T)
        self._of_hidden = np.ascontiguousarray((0.5 * of_hidden[order] * half[:, None]).T)  # of twice the hidden state
        self._bias = bias[order] * half

    def _gates(self, block: Array) -> Array:
        """Return what each frame adds to the gates [T, 4 H]: all of the network before its recurrence."""
        count = len(block)
        spectra = np.zeros((count, POSITIONS + 2, _HALF + 1), np.float32)  # with padding at both ends
        spectra[:, 1:-1] = self._spectra(block)
        first = np.zeros((count, POSITIONS + 1, 128), np.float32)  # padded in front; behind none is left over
        first[:, 1:] = self._convolved(0, _beside(spectra, POSITIONS, 1)).reshape(count, POSITIONS, 128)
        second = self._convolved(1, _beside(first, 2, 2)).reshape(count, 2 * 64)
        last = self._convolved(3, self._convolved(2, second))
        gates: Array = last @ self._of_input
        gates += self._bias
        return gates

    def _spectra(self, block: Array) -> Array:
        """Return the magnitudes [T, P, F] of the spectra of each frame, which is mirrored at its end."""
        padded = np.concatenate([block, block[:, -2 : -2 - WINDOW // 4 : -1]], axis=1)
        stride = padded.strides[1]
        shape = (len(block), POSITIONS, WINDOW)
        windows = as_strided(padded, shape, (padded.strides[0], HOP * stride, stride), writeable=False)
        left, right = windows[:, :, 1:_HALF], windows[:, :, :_HALF:-1]
        even = np.empty((len(block), POSITIONS, _HALF + 1), np.float32)
        even[:, :, 0], even[:, :, _HALF] = windows[:, :, 0], windows[:, :, _HALF]
        np.add(left, right, out=even[:, :, 1:_HALF])
        real = even.reshape(-1, _HALF + 1) @ self._cosines
        imaginary = np.subtract(left, right).reshape(-1, _HALF - 1) @ self._sines
        np.square(real, out=real)
        real += np.square(imaginary, out=imaginary)
        magnitudes: Array = np.sqrt(real, out=real)
        return magnitudes.reshape(len(block), POSITIONS, _HALF + 1)

    def _convolved(self, number: int, columns: Array) -> Array:
        product: Array = columns @ self._convolutions[number]
        product += self._biases[number]
        return np.maximum(product, 0.0, out=product)

    def _recur(self, gates: Array, state: State) -> tuple[Array, Array]:
        """Return twice the hidden states [T, H] of an LSTM, and its last cell [H].

        A step takes nine calls of NumPy: each costs as much as its arithmetic.
        """
        hidden = np.empty((len(gates), HIDDEN), np.float32)
        values = np.empty(5 * HIDDEN, np.float32)  # gates o, i, f, the new value, and the cell
        sums, opened, output = values[: 4 * HIDDEN], values[: 3 * HIDDEN], values[:HIDDEN]
        inputs, kept = values[HIDDEN : 3 * HIDDEN], values[3 * HIDDEN :]
        cell, products = values[4 * HIDDEN :], np.empty(2 * HIDDEN, np.float32)
        new, old, bent = products[:HIDDEN], products[HIDDEN:], np.empty(HIDDEN, np.float32)
        before: Array = 2.0 * state[0].reshape(HIDDEN)
        cell[:] = state[1].reshape(HIDDEN)
        dot, add, tanh, multiply = np.dot, np.add, np.tanh, np.multiply
        for gate, after in zip(gates, hidden, strict=True):
            dot(before, self._of_hidden, sums)
            add(sums, gate, sums)
            tanh(sums, sums)
            add(opened, 1.0, opened)  # twice each gate
            multiply(inputs, kept, products)
            add(new, old, cell)
            multiply(cell, 0.5, cell)
            tanh(cell, bent)
            multiply(output, bent, after)
            before = after
        return hidden, cell.copy()


@cache
def voice_network() -> VoiceNetwork:
    """Return the network of this process. Raises ValueError where the package has another one."""
    weights = distribution("silero-vad").locate_file("silero_vad/data/silero_vad_16k_sequence.onnx")
    return VoiceNetwork(read_weights(Path(str(weights))))


def _taps(weight: Array) -> Array:
    """Return the weights of a convolution [out, in, 3] as a matrix [3 in, out] for positions side by side."""
    return np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, weight.shape[0]))


def _beside(positions: Array, count: int, step: int) -> Array:
    """Return for each of ``count`` positions [T, P, C] it and its two neighbours [T count, 3 C]."""
    frames, _, channels = positions.shape
    strides = (positions.strides[0], step * positions.strides[1], positions.strides[2])
    beside = as_strided(positions, (frames, count, 3 * channels), strides, writeable=False)
    return beside.reshape(-1, 3 * channels)
