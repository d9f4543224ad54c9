"""Activations that autograd keeps for the backward pass: Whisper's forward pass, with sizes in place of numbers.

Each operation notes the tensors that PyTorch saves for its gradient, once each, as ``torch.autograd.graph``'s hooks see
them; the tests hold the sum against those hooks. Attention is counted as the fused kernels have it, without a matrix of
positions x positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from asr.models.capacity import BFLOAT16, FLOAT32, ActivationSegment, Linear, TrainingStep

if TYPE_CHECKING:
    from asr.models.whisper.shapes import NetworkShape

KERNEL = 3  # of both convolutions

_INDEX = 8  # bytes of a token id


@dataclass(frozen=True, eq=False)  # compared by identity: two tensors of the same size are two tensors
class Tensor:
    """``rows`` x ``width`` numbers of ``itemsize`` bytes; ``grad``: a gradient flows back through it."""

    rows: int
    width: int
    itemsize: int
    grad: bool

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return self.rows * self.width * self.itemsize


@dataclass
class _Counts:
    saved: int = 0
    transient: int = 0
    forward: int = 0
    backward: int = 0


class Tape:
    """Collects what the operations of one forward pass save."""

    def __init__(self, shape: NetworkShape, step: TrainingStep) -> None:
        self.shape = shape
        self.step = step
        self.cached = 0  # bytes of keys and values that only the decoder's cache keeps, till the loss
        self._kept: dict[int, Tensor] = {}  # by identity; holding the tensor keeps its id its own
        self._segment = _Counts()

    def cut(self, name: str, trained: int) -> ActivationSegment:
        """Return what was noted since the last cut; what is kept stays known."""
        counts, self._segment = self._segment, _Counts()
        return ActivationSegment(name, trained, **vars(counts))

    def save(self, tensor: Tensor) -> None:
        """Keep a tensor, unless it is kept already."""
        if id(tensor) not in self._kept:
            self._kept[id(tensor)] = tensor
            self._segment.saved += tensor.nbytes

    def linear(self, x: Tensor, linear: Linear, trained: bool) -> Tensor:
        """A linear layer, with its adapter where it has one."""
        step = self.step
        out = self._product(x, linear.inputs * linear.outputs, linear.outputs, trained)
        if step.strategy == "qlora":
            out = replace(out, itemsize=x.itemsize)  # bitsandbytes gives back the precision that it was given
        if not step.adapts(linear):
            return out
        dropped = self._dropout(_cast(x, step.trained_bytes))  # PEFT casts to what the adapter is stored in
        rank = step.adapters.rank
        low = self._product(dropped, linear.inputs * rank, rank, trained=True)
        delta = self._product(low, rank * linear.outputs, linear.outputs, trained=True)
        if step.strategy == "dora":
            # Both parts are saved, to be scaled by a trained magnitude. With dropout, the base layer is computed again.
            if step.adapters.dropout:
                weights, stored = linear.inputs * linear.outputs, step.trained_bytes  # cast to the adapter's precision
                base = self._product(dropped, weights, linear.outputs, False, stored)
            else:
                base = replace(out, itemsize=step.weight_bytes) if linear.bias else replace(out)
            self.save(base)
            self.save(delta)
            self._segment.forward += 2 * rank * linear.inputs * (linear.inputs + linear.outputs)  # the update, whole
        return replace(out, grad=True)

    def norm(self, x: Tensor, trained: bool) -> Tensor:
        """Layer normalisation; CUDA's autocast computes it in float32, the CPU's as it comes."""
        if self.step.autocast and self.step.gpu:
            x = _cast(x, FLOAT32)
        if x.grad or trained:
            self.save(x)
            self._segment.saved += 2 * x.rows * FLOAT32
        return replace(x, grad=x.grad or trained)

    def gelu(self, x: Tensor) -> Tensor:
        """GELU, which keeps its input for the backward pass."""
        if x.grad:
            self.save(x)
        self._segment.transient = max(self._segment.transient, 2 * x.nbytes)
        return replace(x)

    def attention(self, query: Tensor, key: Tensor, trained: bool, caches: bool = False) -> Tensor:
        """Multi-head attention of ``query`` to ``key``, with its four linear layers.

        ``caches``: transformers puts keys and values into a cache, in training as well, but not with checkpointing.
        """
        q_proj, k_proj, v_proj, out_proj = self.shape.attention
        q = self.linear(query, q_proj, trained)
        k, v = self.linear(key, k_proj, trained), self.linear(key, v_proj, trained)
        if caches and k.itemsize != self.step.compute_bytes and not self.step.checkpointing:
            self.cached += k.nbytes + v.nbytes  # else the cache has what autograd saves
        mixed = replace(q, grad=q.grad or k.grad or v.grad)
        mixed = _cast(mixed, self.step.compute_bytes)
        if mixed.grad:
            for tensor in (q, k, v, mixed):
                self.save(_cast(tensor, self.step.compute_bytes))
            self._segment.saved += mixed.rows * self.shape.heads * FLOAT32  # log-sum-exp of each row
        operations = 4 * mixed.rows * (key.rows // self.step.batch.clips) * mixed.width
        self._segment.forward += operations
        self._segment.backward += mixed.grad * operations * 5 // 2  # five products for two: the kernel repeats one
        # A GPU's kernel for float32 writes heads side by side, and what follows reads its result as it lies there. The
        # one for half precision writes as its query lies, head by head: what follows reads a copy.
        side_by_side = self.step.gpu and self.step.compute_bytes == FLOAT32
        return self.linear(mixed if side_by_side else replace(mixed), out_proj, trained)

    def feed_forward(self, x: Tensor, trained: bool) -> Tensor:
        """Both layers and the activation between them."""
        first, second = self.shape.feed_forward
        return self.linear(self.gelu(self.linear(x, first, trained)), second, trained)

    def convolution(self, x: Tensor, rows: int, trained: bool) -> Tensor:
        """A convolution over time with its activation; ``rows`` come out."""
        step, width = self.step, self.shape.width
        weights = x.width * width * KERNEL
        if trained and not x.grad and step.compute_bytes != step.weight_bytes:
            # Unlike a linear layer's, kept even where no gradient goes on.
            self._segment.saved += weights * step.compute_bytes
        return self.gelu(self._product(x, weights, width, trained, rows=rows))

    def loss(self, x: Tensor, trained: bool) -> None:
        """The projection to the vocabulary and the cross entropy."""
        vocabulary = self.shape.vocabulary
        logits = self._product(x, x.width * vocabulary, vocabulary, trained)
        chances = replace(logits, itemsize=FLOAT32)
        self.save(chances)
        self._segment.saved += x.rows * _INDEX
        self._segment.transient = 2 * chances.nbytes  # of the loss, and of the logarithms; then of the logits

    def _product(self, x: Tensor, weights: int, width: int, trained: bool, stored: int = 0, rows: int = 0) -> Tensor:
        """A product with a matrix of so many ``weights``, of ``stored`` bytes each; ``rows``: if others come out."""
        step, counts = self.step, self._segment
        given = _cast(x, step.compute_bytes)
        if trained:
            self.save(given)
        stored = stored or (step.trained_bytes if trained else step.weight_bytes)
        if x.grad and step.compute_bytes != stored:
            counts.saved += weights * step.compute_bytes  # autocast's copy of the weights
        operations = 2 * (rows or x.rows) * weights
        counts.forward += operations
        counts.backward += operations * (x.grad + trained)
        return Tensor(rows or x.rows, width, step.compute_bytes, x.grad or trained)

    def _dropout(self, x: Tensor) -> Tensor:
        if not self.step.adapters.dropout:
            return x
        if x.grad:
            self._segment.saved += x.rows * x.width * (1 if self.step.gpu else x.itemsize)  # the mask
        return replace(x)


def _cast(x: Tensor, itemsize: int) -> Tensor:
    return x if x.itemsize == itemsize else replace(x, itemsize=itemsize)


@lru_cache(maxsize=2)  # memory and time ask for the same, one after the other
def segments(shape: NetworkShape, step: TrainingStep) -> tuple[ActivationSegment, ...]:
    """Return the network's segments: convolutions, encoder layers, embeddings, decoder layers, loss."""
    batch, tape = step.batch, Tape(shape, step)
    encoder, decoder = step.trains_encoder, step.trains_decoder
    rows, tokens = batch.clips * batch.positions, batch.clips * batch.tokens
    features = Tensor(2 * rows, shape.mels, FLOAT32, grad=False)
    stem = tape.convolution(tape.convolution(features, 2 * rows, encoder), rows, encoder)
    hidden = Tensor(rows, shape.width, step.weight_bytes, stem.grad)
    found = [tape.cut("convolutions", shape.stem_parameters * encoder)]

    def encoder_layer(tape: Tape, x: Tensor) -> Tensor:
        normed = tape.norm(x, encoder)
        x = _sum(x, tape.attention(normed, normed, encoder))
        return _sum(x, tape.feed_forward(tape.norm(x, encoder), encoder))

    for _ in range(shape.encoder_layers):
        hidden, segment = _layer(tape, encoder_layer, hidden)
        trained = _trained(step, shape.encoder_layer, shape.encoder_layer_parameters, encoder)
        found.append(replace(segment, name="encoder layer", trained=trained))
    encoded = tape.norm(hidden, encoder)

    # Beside the table's gradient as projection to the vocabulary comes one as inputs, and then the sum, a third matrix.
    table = 2 * shape.vocabulary * shape.width * step.trained_bytes * decoder
    found.append(ActivationSegment("embeddings", shape.decoder_positions * shape.width * decoder, transient=table))

    def decoder_layer(tape: Tape, x: Tensor) -> Tensor:
        normed = tape.norm(x, decoder)
        x = _sum(x, tape.attention(normed, normed, decoder, caches=True))
        x = _sum(x, tape.attention(tape.norm(x, decoder), encoded, decoder, caches=True))
        return _sum(x, tape.feed_forward(tape.norm(x, decoder), decoder))

    hidden = Tensor(tokens, shape.width, step.weight_bytes, decoder)
    for _ in range(shape.decoder_layers):
        hidden, segment = _layer(tape, decoder_layer, hidden, encoded)
        trained = _trained(step, shape.decoder_layer, shape.decoder_layer_parameters, decoder)
        found.append(replace(segment, name="decoder layer", trained=trained))
    tape.loss(tape.norm(hidden, decoder), decoder)
    loss = tape.cut("loss", shape.vocabulary * shape.width * decoder)
    return (*found, replace(loss, cached=tape.cached + _cached_casts(step, found)))


def _cached_casts(step: TrainingStep, before: Sequence[ActivationSegment]) -> int:
    """Return the copies of trained weights that autocast keeps till the loss, where nothing else keeps them as well."""
    if not (step.checkpointing and step.compute_bytes < step.trained_bytes):
        return 0
    return BFLOAT16 * sum(segment.trained for segment in before)


def _layer(
    tape: Tape, layer: Callable[[Tape, Tensor], Tensor], x: Tensor, *others: Tensor
) -> tuple[Tensor, ActivationSegment]:
    """Return what a layer gives, and what it costs."""
    shape, step = tape.shape, tape.step
    inner = Tape(shape, step) if step.checkpointing else tape
    out = layer(inner, x)
    segment = inner.cut("", 0)
    residual = 2 * out.nbytes  # gradients of the layer's result and of what is added to it
    segment = replace(segment, transient=segment.transient + residual)
    if not step.checkpointing:
        return out, segment
    if out.grad:
        for given in (x, *others):
            tape.save(given)
    again = (segment.forward - _last_product(shape, step, out.rows)) * out.grad
    kept = tape.cut("", 0).saved
    return out, replace(segment, saved=kept, recomputed=segment.saved, backward=segment.backward + again)


def _last_product(shape: NetworkShape, step: TrainingStep, rows: int) -> int:
    """Return the operations of a layer's last product: it is not repeated, as nothing after it was saved."""
    last = shape.feed_forward[-1]
    if not step.adapts(last):
        return 2 * rows * last.inputs * last.outputs
    return 0 if step.strategy == "dora" else 2 * rows * step.adapters.rank * last.outputs


def _sum(x: Tensor, y: Tensor) -> Tensor:
    return replace(x, itemsize=max(x.itemsize, y.itemsize), grad=x.grad or y.grad)


def _trained(step: TrainingStep, linears: tuple[Linear, ...], parameters: int, whole: bool) -> int:
    return parameters if whole else sum(step.adapter_parameters(linear) for linear in linears)
