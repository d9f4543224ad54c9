from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, GenerationMixin, WhisperFeatureExtractor, WhisperTokenizer
from transformers.modeling_outputs import BaseModelOutput

from asr.audio.decode import decode as decode_audio
from asr.audio.features import pad
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.family import SpeechModel
from asr.models.whisper.generation import DecoderPrompt, Hypothesis, Vocabulary, generate
from asr.models.whisper.network import AnyContextWhisper
from asr.models.whisper.processor import WhisperProcessor
from asr.models.whisper.tokens import previous_ids, prompt_ids
from asr.utterance import Utterance
from tests.asr.speech import base, italian
from tests.asr.tiny_whisper import MULTILINGUAL, random_whisper

pytestmark = pytest.mark.medium

LENGTH = 40


@pytest.fixture(scope="module")
def babbler() -> SpeechModel:
    """A random network with a real vocabulary: says anything, without end."""
    checkpoint: Checkpoint = find_checkpoint("builtin:base")
    original = random_whisper(MULTILINGUAL)
    network = AnyContextWhisper(original.config).eval()
    network.load_state_dict(original.state_dict())
    network.generation_config = GenerationConfig.from_pretrained(checkpoint.folder, max_length=LENGTH)
    tokenizer = WhisperTokenizer.from_pretrained(checkpoint.folder)
    return SpeechModel(
        "random", "sha256:0", network, WhisperProcessor(tokenizer, WhisperFeatureExtractor(), checkpoint.folder)
    )


def states(model: SpeechModel, rows: int, seed: int = 1) -> torch.Tensor:
    noise = torch.randn(rows, 80, 200, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        encoded: torch.Tensor = model.network.model.encoder(noise).last_hidden_state
    return encoded


def starts(model: SpeechModel) -> list[DecoderPrompt]:
    """Rows that differ in everything."""
    plain = prompt_ids(model.tokenizer, "it")
    timed = prompt_ids(model.tokenizer, "de", "translate", timestamps=True)
    before = previous_ids(model.tokenizer, "Si parla di whisperfleet, e non di altro che questo.")
    return [
        DecoderPrompt(tuple(plain)),
        DecoderPrompt((*before, *plain), len(before)),
        DecoderPrompt(tuple(timed), timestamps=True),
        DecoderPrompt((*before[:4], *timed), 4, timestamps=True, temperature=0.8, seed="a"),
        DecoderPrompt(tuple(plain), temperature=1.0, seed="b"),
    ]


def alike(found: Hypothesis, other: Hypothesis) -> bool:
    return found.tokens == other.tokens and (found.avg_logprob, found.no_speech_prob) == pytest.approx(
        (other.avg_logprob, other.no_speech_prob), abs=1e-4
    )


def test_rows_with_their_own_prompts_rules_and_chance_share_a_batch(babbler: SpeechModel) -> None:
    encoded, rows = states(babbler, 5), starts(babbler)
    together = generate(babbler, encoded, rows)
    for index, row in enumerate(rows):
        [alone] = generate(babbler, encoded[index : index + 1], [row])
        assert alike(alone, together[index]), index
    assert len({found.tokens for found in together}) == len(rows)


def test_rows_that_end_early_leave_and_the_others_do_not_notice(babbler: SpeechModel) -> None:
    """Prompts that nearly fill the decoder leave a row a few tokens only; which rows end first is chosen freely."""
    plain = prompt_ids(babbler.tokenizer, "it")
    positions = babbler.network.config.max_target_positions
    rooms = [3, 36, 1, 20, 5, 36, 2]
    rows = []
    for number, room in enumerate(rooms):
        before = [1000 + number] * max(positions - len(plain) - room, 0) if room < 36 else []
        rows.append(DecoderPrompt((*before, *plain), len(before)))
    encoded = states(babbler, len(rows))
    together = generate(babbler, encoded, rows)
    assert [len(found.tokens) for found in together] == rooms
    for index, row in enumerate(rows):
        assert alike(generate(babbler, encoded[index : index + 1], [row])[0], together[index]), index


def test_the_text_before_does_not_count_for_the_length(babbler: SpeechModel) -> None:
    rows = starts(babbler)
    found = generate(babbler, states(babbler, 5), rows)
    for row, one in zip(rows, found, strict=True):
        assert len(one.tokens) == LENGTH - (len(row.prompt) - row.previous), "a random network does not end by itself"


@pytest.mark.parametrize("index", [0, 1])
def test_probabilities_are_those_of_the_network_asked_at_once(babbler: SpeechModel, index: int) -> None:
    encoded, row = states(babbler, 5), starts(babbler)[index]
    found = generate(babbler, encoded, starts(babbler))[index]
    ids = torch.tensor([[*row.prompt, *found.tokens]])
    with torch.no_grad():
        network: Any = babbler.network
        hidden = BaseModelOutput(last_hidden_state=encoded[index : index + 1])
        logits = network(encoder_outputs=hidden, decoder_input_ids=ids).logits[0]
    nobody = logits[row.previous].softmax(dim=-1)[50362]
    assert babbler.tokenizer.convert_ids_to_tokens(50362) == "<|nocaptions|>"
    assert found.no_speech_prob == pytest.approx(float(nobody), rel=1e-3)
    config = network.generation_config
    logits[:, config.suppress_tokens] = float("-inf")
    logits[len(row.prompt) - 1, config.begin_suppress_tokens] = float("-inf")
    steps = logits[len(row.prompt) - 1 : -1].log_softmax(dim=-1).gather(1, torch.tensor(found.tokens)[:, None])
    # Cut off at its length, a row has no end to count, but is divided as if it had: so does Whisper.
    assert found.avg_logprob == pytest.approx(float(steps.sum()) / (len(found.tokens) + 1), rel=1e-4)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), temperature=st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_times_come_in_pairs_and_never_go_back(babbler: SpeechModel, seed: int, temperature: float) -> None:
    words = Vocabulary.of(babbler.tokenizer)
    prompt = tuple(prompt_ids(babbler.tokenizer, "it", timestamps=True))
    rows = [DecoderPrompt(prompt, timestamps=True, temperature=temperature, seed=str(n)) for n in range(4)]
    for found in generate(babbler, states(babbler, 4, seed), rows):
        tokens = found.tokens
        assert words.first_time <= tokens[0] <= words.first_time + 50, "it begins with a time of at most a second"
        times = [token for token in tokens if token >= words.first_time]
        assert times == sorted(times)
        starts_and_ends = list(zip(times[::2], times[1::2], strict=False))
        assert all(start < end for start, end in starts_and_ends)
        runs = "".join("t" if token >= words.first_time else "w" for token in tokens)
        assert re.fullmatch(r"t(w+(ttw+)*t{0,2})?", runs), "an end, then the next beginning"
        assert words.no_timestamps not in tokens


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), temperature=st.floats(0.1, 5.0))
def test_what_is_suppressed_is_never_drawn(babbler: SpeechModel, seed: int, temperature: float) -> None:
    config: Any = babbler.network.generation_config
    rows = [replace(starts(babbler)[0], temperature=temperature, seed=f"{seed} {n}") for n in range(4)]
    found = generate(babbler, states(babbler, 1).expand(4, -1, -1), rows)
    assert not {token for one in found for token in one.tokens} & set(config.suppress_tokens)
    assert not {one.tokens[0] for one in found} & set(config.begin_suppress_tokens)
    assert len({one.tokens for one in found}) > 1 or temperature < 1, "other seeds, other words"


def test_hotter_is_less_likely_and_cold_is_greedy(babbler: SpeechModel) -> None:
    row, encoded = starts(babbler)[0], states(babbler, 1)
    temperatures = [0.0, 0.001, 0.5, 1.0, 2.0]
    heard = generate(babbler, encoded.expand(5, -1, -1), [replace(row, temperature=t, seed="s") for t in temperatures])
    assert heard[0].tokens == heard[1].tokens
    assert heard[2].avg_logprob > heard[3].avg_logprob > heard[4].avg_logprob


def features(model: SpeechModel, clips: list[Utterance]) -> list[np.ndarray]:
    return [model.features(decode_audio(str(clip.audio))) for clip in clips]


@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_the_tokens_are_those_of_transformers_generation_loop(
    name: str, tiny_en: SpeechModel, english_clips: list[Utterance]
) -> None:
    model = tiny_en if name == "tiny.en" else base()
    clips = features(model, english_clips[3:9]) if name == "tiny.en" else italian(4)
    prompt = prompt_ids(model.tokenizer, "en" if name == "tiny.en" else "it")
    network: Any = model.network
    with torch.inference_mode():
        encoded = network.model.encoder(torch.from_numpy(pad(clips, 3000)))
        expected = GenerationMixin.generate(
            network,
            encoder_outputs=encoded,
            attention_mask=torch.ones(encoded.last_hidden_state.shape[:2]),
            decoder_input_ids=torch.tensor([prompt] * len(clips)),
            do_sample=False,
        )
    found = generate(model, encoded.last_hidden_state, [DecoderPrompt(tuple(prompt))] * len(clips))
    end = model.tokenizer.eos_token_id
    assert [list(one.tokens) for one in found] == [
        [i for i in row[len(prompt) :] if i != end] for row in expected.tolist()
    ]
    assert all(one.avg_logprob > -1 and one.tokens for one in found)
