"""The decoding loop: encoder states and prompts in, tokens out, each row by its own rules.

Legend: B rows, S encoder positions (20 ms each), D width, L prompt tokens, K tokens so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, cast

import torch

from asr.models.family import SpeechModel
from asr.models.inference_mode import inference_mode
from asr.models.whisper.multi_lora import row_adapters

if TYPE_CHECKING:
    from transformers import GenerationConfig, WhisperForConditionalGeneration, WhisperTokenizer

# The first segment starts within its first second (Whisper's max_initial_timestamp), in steps of 20 ms.
_LAST_INITIAL_TIME = 50
_NEVER = float("-inf")


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that steer decoding. Text lies below ``end``, times from ``first_time`` on."""

    end: int
    no_speech: int
    no_timestamps: int

    @classmethod
    def of(cls, tokenizer: WhisperTokenizer) -> Vocabulary:
        """Read them off a tokenizer. ``<|nospeech|>``, called ``<|nocaptions|>`` at first, stands second to last."""
        no_timestamps = int(tokenizer.convert_tokens_to_ids("<|notimestamps|>"))
        return cls(int(tokenizer.eos_token_id), no_timestamps - 1, no_timestamps)

    @property
    def first_time(self) -> int:
        """The token ``<|0.00|>``."""
        return self.no_timestamps + 1


@dataclass(frozen=True)
class DecoderPrompt:
    """The prompt that a row is decoded from; its first ``previous`` tokens are of the text before.

    ``temperature`` 0 takes the likeliest token, above it tokens are drawn by a generator of ``seed``.
    """

    prompt: tuple[int, ...]
    previous: int = 0
    timestamps: bool = False
    temperature: float = 0.0
    seed: str = ""


@dataclass(frozen=True)
class Hypothesis:
    """The decoded tokens of a row, of text and times, without the end token.

    ``avg_logprob`` is the mean over these and the end, ``no_speech_prob`` that of ``<|nospeech|>`` where the
    transcript starts.
    """

    tokens: tuple[int, ...]
    avg_logprob: float
    no_speech_prob: float


@dataclass
class _Row:
    index: int
    start: DecoderPrompt
    limit: int
    random: Random
    no_speech_prob: float
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    ended: bool = False

    def add(self, token: int, logprob: float, end: int) -> None:
        self.logprob += logprob
        if token == end:
            self.ended = True
        else:
            self.tokens.append(token)
            self.ended = len(self.tokens) >= self.limit

    def found(self) -> Hypothesis:
        return Hypothesis(tuple(self.tokens), self.logprob / (len(self.tokens) + 1), self.no_speech_prob)


def whisper_of(network: torch.nn.Module) -> WhisperForConditionalGeneration:
    """Return the Whisper inside a network that PEFT may have wrapped; adapters stay active in it."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


@inference_mode
def generate(
    model: SpeechModel,
    encoded_BSD: torch.Tensor,
    starts: Sequence[DecoderPrompt],
    adapters: Sequence[str] = (),
    mask_B11S: torch.Tensor | None = None,
) -> list[Hypothesis]:
    """Decode each row from its own start until its own end; rows that are done leave the batch.

    A row ends at ``max_length`` of the generation config, which its text before does not count for, or where the
    decoder has no more positions. ``adapters`` are the rows', in a network that has several. Encoder states of several
    contexts come with their mask from ``asr.models.whisper.network.pad_encoder_states``.
    """
    from asr.models.whisper.network import cross_attention_mask  # transformers' networks come with it

    network = whisper_of(model.network)
    decoder = _Decoder(network, encoded_BSD, starts, adapters, mask_B11S)
    with cross_attention_mask(network, decoder.mask):
        return _generate(decoder, network.generation_config, Vocabulary.of(model.tokenizer), starts)


def _generate(
    decoder: _Decoder, config: GenerationConfig, words: Vocabulary, starts: Sequence[DecoderPrompt]
) -> list[Hypothesis]:
    logits_BV, no_speech = decoder.first(words.no_speech)
    live = [
        _Row(index, start, decoder.limit(start), Random(start.seed), probability)
        for index, (start, probability) in enumerate(zip(starts, no_speech, strict=True))
    ]
    rows = list(live)
    while True:
        _forbid(logits_BV, live, config, words)
        chosen_B = _choose(logits_BV, live)
        logprobs_B = logits_BV.gather(1, chosen_B[:, None])[:, 0] - logits_BV.logsumexp(dim=-1)
        for row, token, logprob in zip(live, chosen_B.tolist(), logprobs_B.tolist(), strict=True):
            row.add(token, logprob, words.end)
        live = decoder.leave(live)
        if not live:
            return [row.found() for row in rows]
        logits_BV = decoder.next(live)


class _Decoder:
    """The network's decoder with its cache; a row's index in the batch is its index in the list of live rows."""

    def __init__(
        self,
        network: WhisperForConditionalGeneration,
        encoded_BSD: torch.Tensor,
        starts: Sequence[DecoderPrompt],
        adapters: Sequence[str],
        mask_B11S: torch.Tensor | None,
    ) -> None:
        from transformers import DynamicCache, EncoderDecoderCache

        self._network = network
        self._adapters = adapters
        self._encoded_BSD = encoded_BSD
        self._mask_B11S = mask_B11S
        self._starts = starts
        self._cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self._width = max(len(start.prompt) for start in starts)

    def mask(self) -> torch.Tensor | None:
        """Return the mask that hides from each row the padding behind its audio [B, 1, 1, S]; None if there is none."""
        return self._mask_B11S

    def limit(self, start: DecoderPrompt) -> int:
        """Return how many tokens a row may add to its prompt, at least one."""
        config, positions = self._network.generation_config, self._network.config.max_target_positions
        asked = (config.max_length or positions) - (len(start.prompt) - start.previous)
        return max(min(int(asked), int(positions) - len(start.prompt)), 1)

    def first(self, no_speech: int) -> tuple[torch.Tensor, list[float]]:
        """Read the prompts: logits of the tokens after them [B, V] and the probabilities that nobody speaks."""
        prompts = [start.prompt for start in self._starts]
        pads = [self._width - len(prompt) for prompt in prompts]
        ids_BL = [[prompt[0]] * pad + list(prompt) for prompt, pad in zip(prompts, pads, strict=True)]
        positions_BL = [[0] * pad + list(range(len(prompt))) for prompt, pad in zip(prompts, pads, strict=True)]
        hidden_BLD = self._forward(ids_BL, positions_BL, self._mask(pads, self._width))
        device = hidden_BLD.device
        transcript_starts = [pad + start.previous for pad, start in zip(pads, self._starts, strict=True)]
        hidden_BD = hidden_BLD[
            torch.arange(len(prompts), device=device), torch.tensor(transcript_starts, device=device)
        ]
        no_speech_B = self._network.proj_out(hidden_BD).float().softmax(dim=-1)[:, no_speech]
        return self._network.proj_out(hidden_BLD[:, -1]).float(), no_speech_B.tolist()

    def next(self, live: Sequence[_Row]) -> torch.Tensor:
        """Read each row's last token: logits of the next [B, V]."""
        self._width += 1
        pads = [self._width - len(row.start.prompt) - len(row.tokens) for row in live]
        ids_B1 = [[row.tokens[-1]] for row in live]
        positions_B1 = [[self._width - 1 - pad] for pad in pads]
        return self._network.proj_out(self._forward(ids_B1, positions_B1, self._mask(pads, 1))[:, -1]).float()

    def leave(self, rows: list[_Row]) -> list[_Row]:
        """Return the rows that go on, each where its part of the cache now is.

        The last ones move to the indices of those that have ended: a batch's keys and values of the audio are
        hundreds of megabytes, so that no more of them is copied than must be.
        """
        count = sum(not row.ended for row in rows)
        if count == len(rows):
            return rows
        holes = [place for place in range(count) if rows[place].ended]
        movers = [place for place in range(count, len(rows)) if not rows[place].ended]
        for layer in (*self._cache.self_attention_cache.layers, *self._cache.cross_attention_cache.layers):
            for hole, mover in zip(holes, movers, strict=True):
                layer.keys[hole], layer.values[hole] = layer.keys[mover], layer.values[mover]
            layer.keys, layer.values = layer.keys[:count], layer.values[:count]
        self._encoded_BSD = self._encoded_BSD[:count]  # only its presence counts from now on: its keys are cached
        moved = dict(zip(holes, movers, strict=True))
        places = [moved.get(place, place) for place in range(count)]
        if self._mask_B11S is not None:
            self._mask_B11S = self._mask_B11S[places]
        if self._adapters:
            self._adapters = [self._adapters[place] for place in places]
        return [rows[place] for place in places]

    def _forward(
        self, ids_BL: list[list[int]], positions_BL: list[list[int]], mask: torch.Tensor | None
    ) -> torch.Tensor:
        device = self._encoded_BSD.device
        with row_adapters(self._adapters):
            output = self._network.model.decoder(
                input_ids=torch.tensor(ids_BL, device=device),
                position_ids=torch.tensor(positions_BL, device=device),
                attention_mask=mask,
                encoder_hidden_states=self._encoded_BSD,
                past_key_values=self._cache,
                use_cache=True,
            )
        return cast(torch.Tensor, output.last_hidden_state)

    def _mask(self, pads: Sequence[int], queries: int) -> torch.Tensor | None:
        """Return what is added to attention scores [B, 1, queries, K]; None where no row is padded.

        A padded position sees itself: with nothing to see its states would be undefined, and spread.
        """
        if not any(pads):
            return None
        device, dtype = self._encoded_BSD.device, self._encoded_BSD.dtype
        keys_K = torch.arange(self._width, device=device)
        queries_Q1 = keys_K[-queries:, None]
        real_B1K = keys_K >= torch.tensor(pads, device=device)[:, None, None]
        seen_BQK = (real_B1K & (keys_K <= queries_Q1)) | (keys_K == queries_Q1)
        return torch.zeros(seen_BQK.shape, device=device, dtype=dtype).masked_fill_(~seen_BQK, torch.finfo(dtype).min)[
            :, None
        ]


def _forbid(logits_BV: torch.Tensor, live: Sequence[_Row], config: GenerationConfig, words: Vocabulary) -> None:
    """Rule out, in place, what must not come next: the config's tokens, and times out of order."""
    if config.suppress_tokens:
        logits_BV[:, config.suppress_tokens] = _NEVER
    if config.begin_suppress_tokens and not live[0].tokens:  # all rows start together
        logits_BV[:, config.begin_suppress_tokens] = _NEVER
    for logits_V, row in zip(logits_BV, live, strict=True):
        if row.start.timestamps:
            _forbid_times(logits_V, row.tokens, words)


def _forbid_times(logits_V: torch.Tensor, tokens: Sequence[int], words: Vocabulary) -> None:
    """Whisper's rules (its ApplyTimestampRules): times in pairs that never go back, first one of at most a second."""
    first = words.first_time
    logits_V[words.end + 1 : first] = _NEVER
    if not tokens:
        logits_V[:first] = _NEVER
        logits_V[first + _LAST_INITIAL_TIME + 1 :] = _NEVER
        return
    after_time = tokens[-1] >= first
    segment_open = len(tokens) < 2 or tokens[-2] >= first  # in which case that time was its beginning
    if after_time and segment_open:
        logits_V[first:] = _NEVER
    elif after_time:
        logits_V[: words.end] = _NEVER
    last = next((token for token in reversed(tokens) if token >= first), first)
    # A segment lasts a while, but the next one may begin where it ends.
    logits_V[first : last if after_time and not segment_open else last + 1] = _NEVER
    time_is_likelier = logits_V[first:].logsumexp(dim=-1) > logits_V[:first].max()
    logits_V[:first].masked_fill_(time_is_likelier, _NEVER)


def _choose(logits_BV: torch.Tensor, live: Sequence[_Row]) -> torch.Tensor:
    chosen_B = logits_BV.argmax(dim=-1)
    drawn = [place for place, row in enumerate(live) if row.start.temperature > 0]
    if drawn:
        device = logits_BV.device
        places = torch.tensor(drawn, device=device)
        heat = torch.tensor([[live[place].start.temperature] for place in drawn], device=device)
        # Drawn through the distribution function, with one number of the row's own generator per token: whatever
        # else is in the batch, and on whatever device, a row draws the same. Double, for its 50,000 summands.
        summed = (logits_BV[places] / heat).softmax(dim=-1, dtype=torch.float64).cumsum(dim=-1)
        level = torch.tensor([[live[place].random.random()] for place in drawn], dtype=torch.float64, device=device)
        picked = torch.searchsorted(summed, level * summed[:, -1:], right=True)
        chosen_B[places] = picked[:, 0].clamp(max=logits_BV.shape[1] - 1)
    return chosen_B
