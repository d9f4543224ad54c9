"""Word times, read off the decoder's cross attention, as openai/whisper does (its `timing.py`).

Legend: B rows, S encoder positions (20 ms each), D width, L tokens, H attention heads, N text tokens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import WhisperTokenizer

from asr.language import UNSPACED
from asr.models.family import SpeechModel
from asr.models.inference_mode import inference_mode
from asr.models.whisper.generation import Vocabulary, whisper_of
from asr.models.whisper.tokens import TIMESTAMP_S
from asr.transcript import Word

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

_FILTER_WIDTH = 7
_LONGEST_MEDIAN_S = 0.7
_SENTENCE_ENDS = (".", "。", "!", "！", "?", "？")


@dataclass(frozen=True)
class AlignmentTarget:
    """A text to align with the audio: the ``prompt`` it is decoded behind, its tokens, the clip's length."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    duration_s: float
    language: str | None


@dataclass
class _Group:
    """The tokens of a word, of which those from ``first`` to before ``end`` are more than punctuation."""

    text: str
    first: int
    end: int
    spoken: bool


@inference_mode
def align(model: SpeechModel, encoded_BSD: torch.Tensor, lines: Sequence[AlignmentTarget]) -> list[tuple[Word, ...]]:
    """Return the words of each line with their times, from the encoder states that it was decoded from.

    Each line has at least one token.
    """
    network, end = whisper_of(model.network), Vocabulary.of(model.tokenizer).end
    sequences = [[*line.prompt, *line.tokens, end] for line in lines]
    width = max(len(sequence) for sequence in sequences)
    # What stands behind a row's end is seen by nothing before it: the attention is causal and no mask is needed.
    ids_BL = torch.tensor([sequence + [end] * (width - len(sequence)) for sequence in sequences])
    heads, head_size = _alignment_heads(network), network.config.d_model // network.config.decoder_attention_heads
    with _projections(network, sorted({layer for layer, _ in heads})) as projected:
        hidden_BLD = network.model.decoder(
            input_ids=ids_BL.to(encoded_BSD.device), encoder_hidden_states=encoded_BSD, use_cache=False
        ).last_hidden_state
    words = []
    for row, line in enumerate(lines):
        # The times are those of the positions that tokens are foretold at: one before each, and one for the end.
        before, after = len(line.prompt) - 1, len(line.prompt) + len(line.tokens)
        positions = max(int(line.duration_s / TIMESTAMP_S + 1e-6), 1)  # rounded down: no word beyond the clip
        weights_HLS = _weights(projected, heads, head_size, row, after + 1, positions)
        times_s = path_times(_match(weights_HLS)[before:after]).tolist()
        logits_NV = network.proj_out(hidden_BLD[row, before : after - 1]).float()[:, :end]
        tokens_N1 = torch.tensor(line.tokens, device=logits_NV.device)[:, None]
        probabilities = logits_NV.softmax(dim=-1).gather(1, tokens_N1)[:, 0].tolist()
        words.append(words_of(model.tokenizer, line.tokens, line.language, times_s, probabilities))
    return words


def words_of(
    tokenizer: WhisperTokenizer,
    tokens: Sequence[int],
    language: str | None,
    times_s: Sequence[float],
    probabilities: Sequence[float],
) -> tuple[Word, ...]:
    """Group tokens into words: N tokens, N + 1 times (each token's start, and the last one's end), N probabilities.

    Words are split at spaces, or by character in languages without them. Punctuation belongs to the word beside it,
    but not to that word's time: a comma lasts as long as the pause.
    """
    groups = _groups(tokenizer, tokens, language in UNSPACED)
    longest_s = 2 * _median_s([times_s[group.end] - times_s[group.first] for group in groups])
    words: list[Word] = []
    for group in groups:
        start_s, end_s = float(times_s[group.first]), float(times_s[group.end])
        if not words or words[-1].text.endswith(_SENTENCE_ENDS):
            start_s = max(start_s, end_s - longest_s)  # else the silence before a sentence counts as its first word
        probability = float(np.mean(probabilities[group.first : group.end]))
        words.append(Word(round(start_s, 2), round(end_s, 2), group.text, probability))
    return tuple(words)


def _median_s(durations_s: Sequence[float]) -> float:
    lasting = [duration_s for duration_s in durations_s if duration_s > 0]
    return min(float(np.median(lasting)), _LONGEST_MEDIAN_S) if lasting else _LONGEST_MEDIAN_S


def _groups(tokenizer: WhisperTokenizer, tokens: Sequence[int], unspaced: bool) -> list[_Group]:
    groups: list[_Group] = []
    for text, first, end in _characters(tokenizer, tokens):
        spoken = any(unicodedata.category(character)[0] not in "PSZ" for character in text)
        begins = text.startswith(" ") or (unspaced and (spoken or _opens(text)))
        last = groups[-1] if groups else None
        if last is None or (begins and last.spoken):
            groups.append(_Group(text, first, end, spoken))
            continue
        last.text += text
        if spoken:
            last.first, last.end = last.first if last.spoken else first, end
            last.spoken = True
    if len(groups) > 1 and not groups[-1].spoken:  # a dash at the very end
        groups[-2].text += groups.pop().text
    return groups


def _opens(text: str) -> bool:
    """Return whether punctuation belongs to what follows it: opening brackets and quotes."""
    return unicodedata.category(text.strip()[:1] or " ") in ("Ps", "Pi")


def _characters(tokenizer: WhisperTokenizer, tokens: Sequence[int]) -> Iterator[tuple[str, int, int]]:
    """Yield the text of the tokens [first, end) as soon as they are whole characters, which may take several."""
    whole = str(tokenizer.decode(list(tokens)))
    first, offset = 0, 0
    for end in range(1, len(tokens) + 1):
        text = str(tokenizer.decode(list(tokens[first:end])))
        broken = text.find("\ufffd")  # a part of a character, unless the whole text has the same in this place
        if end == len(tokens) or broken < 0 or whole[offset + broken : offset + broken + 1] == "\ufffd":
            yield text, first, end
            first, offset = end, offset + len(text)


def _alignment_heads(network: WhisperForConditionalGeneration) -> list[tuple[int, int]]:
    """Return the (layer, head) pairs known to follow the audio; of a network without such a list, the upper half."""
    known = getattr(network.generation_config, "alignment_heads", None)
    if known:
        return [(int(layer), int(head)) for layer, head in known]
    layers, heads = network.config.decoder_layers, network.config.decoder_attention_heads
    return [(layer, head) for layer in range(layers // 2, layers) for head in range(heads)]


@contextmanager
def _projections(
    network: WhisperForConditionalGeneration, layers: Sequence[int]
) -> Iterator[dict[tuple[int, str], torch.Tensor]]:
    """Collect the queries and keys of these layers' cross attention while the decoder runs.

    From them the weights of a few heads are quickly made. Asking the decoder for its attentions would take another
    attention implementation, and gigabytes for all heads of all layers of a large checkpoint.
    """
    collected: dict[tuple[int, str], torch.Tensor] = {}

    def keep(key: tuple[int, str]) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            collected[key] = output

        return hook

    attentions = {layer: network.model.decoder.layers[layer].encoder_attn for layer in layers}
    handles = [
        getattr(attention, f"{name}_proj").register_forward_hook(keep((layer, name)))
        for layer, attention in attentions.items()
        for name in "qk"
    ]
    try:
        yield collected
    finally:
        for handle in handles:
            handle.remove()


def _weights(
    projected: dict[tuple[int, str], torch.Tensor],
    heads: Sequence[tuple[int, int]],
    head_size: int,
    row: int,
    length: int,
    positions: int,
) -> torch.Tensor:
    """Return how a row's tokens attend to its audio [H, L, S], over the positions of the clip alone."""
    scores = []
    for layer, head in heads:
        part = slice(head * head_size, (head + 1) * head_size)
        queries_LD, keys_SD = projected[layer, "q"][row, :length, part], projected[layer, "k"][row, :positions, part]
        scores.append((queries_LD * head_size**-0.5).float() @ keys_SD.float().T)
    return torch.stack(scores).softmax(dim=-1)


def _match(weights_HLS: torch.Tensor) -> NDArray[np.float64]:
    """Return how much each token stands out at each position [L, S]: weights normalised, smoothed, mean of heads."""
    deviation, mean = torch.std_mean(weights_HLS, dim=-2, keepdim=True, unbiased=False)
    normal = (weights_HLS - mean) / deviation.clamp_min(torch.finfo(torch.float32).tiny)
    reach = _FILTER_WIDTH // 2
    if normal.shape[-1] > reach:
        padded = nn.functional.pad(normal, (reach, reach), mode="reflect")
        normal = padded.unfold(-1, _FILTER_WIDTH, 1).sort(dim=-1).values[..., reach]
    return np.asarray(normal.mean(dim=0).cpu().numpy(), dtype=np.float64)


def path_times(match: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return when each row of [rows, positions] begins in seconds, on the path of the greatest sum through it.

    The path leads from the first row and position to the last ones and goes back in neither (dynamic time warping).
    It is found along anti-diagonals, whose cells do not depend on each other: 250 rows of 1500 positions take some
    20 ms instead of seconds.
    """
    rows, positions = match.shape
    # Shifted so that column d holds the anti-diagonal of cells (i, d - i).
    skewed = np.pad(-match, ((0, 0), (0, rows)), constant_values=np.inf).ravel()[: rows * (positions + rows - 1)]
    skewed = np.ascontiguousarray(skewed.reshape(rows, positions + rows - 1).T)
    before, last = np.full(rows + 1, np.inf), np.full(rows + 1, np.inf)  # costs by row, from 1; 0 is outside
    before[0] = 0.0
    from_diagonal, from_above = np.zeros(skewed.shape, dtype=bool), np.zeros(skewed.shape, dtype=bool)
    for d, cost in enumerate(skewed):
        diagonal, above, left = before[:-1], last[:-1], last[1:]
        from_diagonal[d] = (diagonal < above) & (diagonal < left)
        from_above[d] = (above < diagonal) & (above < left)
        best = np.minimum(np.minimum(diagonal, above), left)
        before, last = last, np.concatenate(([np.inf], cost + best))
    begins = np.zeros(rows)
    row, position = rows - 1, positions - 1
    while row > 0:
        moved_down = from_diagonal[row + position, row] or from_above[row + position, row]
        moved_right = position > 0 and not from_above[row + position, row]
        begins[row] = position
        row, position = row - int(moved_down), position - int(moved_right)
    return begins * TIMESTAMP_S
