from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import WhisperTokenizer

from asr.data.segments import LabelledSegment
from asr.errors import DataError, UserError
from asr.models.checkpoint import Checkpoint
from asr.models.family import SpeechModel
from asr.models.whisper.tokens import (
    MAX_PREVIOUS_TOKENS,
    MAX_TOKENS,
    is_multilingual,
    label_ids,
    previous_ids,
    prompt_ids,
    window_ids,
)
from asr.transcript import Task

SPOKEN = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: text.strip() and "|>" not in text)
START, END, NO_TIMESTAMPS = 50258, 50257, 50363


@pytest.fixture(scope="module")
def multilingual(base_checkpoint: Checkpoint) -> WhisperTokenizer:
    return WhisperTokenizer.from_pretrained(base_checkpoint.folder)


@pytest.fixture(scope="module")
def english(tiny_en: SpeechModel) -> WhisperTokenizer:
    return tiny_en.tokenizer


def refused(tokenizer: WhisperTokenizer, text: str) -> DataError:
    with pytest.raises(DataError) as caught:
        label_ids(tokenizer, text, prompt_ids(tokenizer, "en"))
    return caught.value


def test_the_two_vocabularies(multilingual: WhisperTokenizer, english: WhisperTokenizer) -> None:
    assert is_multilingual(multilingual)
    assert not is_multilingual(english)


@pytest.mark.parametrize(("language", "task"), [("it", "transcribe"), ("de", "translate"), ("su", "transcribe")])
def test_the_prompt_is_that_of_transformers(multilingual: WhisperTokenizer, language: str, task: Task) -> None:
    multilingual.set_prefix_tokens(language=language, task=task, predict_timestamps=False)
    prompt = prompt_ids(multilingual, language, task)
    assert prompt == multilingual.prefix_tokens
    named = ["<|startoftranscript|>", f"<|{language}|>", f"<|{task}|>", "<|notimestamps|>"]
    assert multilingual.convert_ids_to_tokens(prompt) == named
    label = label_ids(multilingual, "Prova, uno due.", prompt)
    assert label == multilingual(" Prova, uno due.").input_ids


def test_the_english_prompt_names_no_language(english: WhisperTokenizer) -> None:
    for language in (None, "en"):
        assert english.convert_ids_to_tokens(prompt_ids(english, language)) == [
            "<|startoftranscript|>",
            "<|notimestamps|>",
        ]
    for language, task in (("it", "transcribe"), ("en", "translate")):
        with pytest.raises(UserError, match="English only"):
            prompt_ids(english, language, task)


@pytest.mark.parametrize("language", ["xx", "Italian", "yue", "", "transcribe", "translate", "nospeech", "0.00"])
def test_an_unknown_language_is_a_users_mistake(multilingual: WhisperTokenizer, language: str) -> None:
    """``<|translate|>`` is a token too, but no language; Cantonese has one in large-v3 only."""
    with pytest.raises(UserError, match=f"no token for the language '{language}'"):
        prompt_ids(multilingual, language)


def test_a_language_without_a_token_gets_the_name_of_a_related_one(multilingual: WhisperTokenizer) -> None:
    with pytest.raises(UserError, match=r"no token for the language 'dv' .*language=si"):
        prompt_ids(multilingual, "dv")


def test_a_multilingual_checkpoint_asks_for_the_language(multilingual: WhisperTokenizer) -> None:
    with pytest.raises(UserError, match="needs to be told the language"):
        prompt_ids(multilingual, None)


@given(text=SPOKEN)
@settings(deadline=None)
@example("a <|b and <| startoftranscript")
def test_one_start_one_end_and_the_text_between(
    multilingual: WhisperTokenizer, english: WhisperTokenizer, text: str
) -> None:
    for tokenizer in (multilingual, english):
        prompt = prompt_ids(tokenizer, "en")
        label = label_ids(tokenizer, text, prompt)
        assert label[: len(prompt)] == prompt
        assert label[-1] == tokenizer.eos_token_id
        assert label.count(prompt[0]) == label.count(label[-1]) == 1, "exactly one start and one end"
        spoken = tokenizer.decode(label[len(prompt) : -1], clean_up_tokenization_spaces=False)
        assert spoken.removeprefix(" ") == text.strip()


@pytest.mark.parametrize("text", ["ދިވެހި ބަސް", "ics", "สวัสดี", "Ciao"])
def test_no_label_begins_with_a_token_that_decoding_may_not_begin_with(
    multilingual: WhisperTokenizer, text: str
) -> None:
    """Whisper's generation config forbids a lone space there: Thaana taught with one could never be said."""
    prompt = prompt_ids(multilingual, "en")
    assert label_ids(multilingual, text, prompt)[len(prompt)] != 220


@pytest.mark.parametrize("token", ["<|endoftext|>", "<|startoftranscript|>", "<|it|>", "<|0.00|>", "<|nospeech|>"])
def test_markup_in_a_transcript_is_quarantined(multilingual: WhisperTokenizer, token: str) -> None:
    fault = refused(multilingual, f"uno {token} due")
    assert fault.reason == "special_token"
    assert token in fault.detail


@pytest.mark.parametrize("text", ["", "  ", "\n\t", "\u3000"])
def test_no_text_is_quarantined(multilingual: WhisperTokenizer, text: str) -> None:
    assert refused(multilingual, text).reason == "no_transcript"


def test_the_longest_label_fills_the_decoder(multilingual: WhisperTokenizer) -> None:
    words = MAX_TOKENS - 5
    prompt = prompt_ids(multilingual, "en")
    assert len(label_ids(multilingual, " the" * words, prompt)) == MAX_TOKENS
    fault = refused(multilingual, " the" * (words + 1))
    assert (fault.reason, fault.detail) == ("label_too_long", "449 tokens, the decoder has 448 positions")


def test_words_that_begin_with_t_are_the_tokens_that_whisper_was_trained_on(multilingual: WhisperTokenizer) -> None:
    """OpenAI's tokenizer gives these; exports without its first merge give 220 and the rest (transformers#29368)."""
    assert multilingual(" This is a test", add_special_tokens=False).input_ids == [639, 307, 257, 1500]
    assert multilingual(" the", add_special_tokens=False).input_ids == [264]


def test_segments_stand_between_their_times(multilingual: WhisperTokenizer) -> None:
    """50364 is ``<|0.00|>`` in OpenAI's vocabulary, each further token 0.02 s more; there is no flag against them."""
    prompt = prompt_ids(multilingual, "it", timestamps=True)
    assert prompt == prompt_ids(multilingual, "it")[:-1]
    segments = [
        LabelledSegment(0.0, 2.4, "Uno. "),
        LabelledSegment(2.4, 5.013, " due"),
        LabelledSegment(29.0, 30.0, "tre"),
    ]
    label = window_ids(multilingual, segments, prompt)
    assert label[: len(prompt)] == prompt
    assert label[-1] == multilingual.eos_token_id
    assert NO_TIMESTAMPS not in label
    text = "".join(
        f"<|{(token - 50364) / 50:.2f}|>" if token >= 50364 else multilingual.decode([token])
        for token in label[len(prompt) : -1]
    )
    assert text == "<|0.00|> Uno.<|2.40|><|2.40|> due<|5.02|><|29.00|> tre<|30.00|>"


def test_faults_of_a_window_are_those_of_its_segments(multilingual: WhisperTokenizer) -> None:
    prompt = prompt_ids(multilingual, "it", timestamps=True)
    for text, reason in ((" ", "no_transcript"), ("<|2.40|>", "special_token"), (" the" * 443, "label_too_long")):
        with pytest.raises(DataError) as caught:
            window_ids(multilingual, [LabelledSegment(0.0, 1.0, "uno"), LabelledSegment(1.0, 2.0, text)], prompt)
        assert caught.value.reason == reason


def test_the_text_before_is_cut_from_the_left_to_what_whisper_takes(multilingual: WhisperTokenizer) -> None:
    short = previous_ids(multilingual, "prima")
    assert multilingual.convert_ids_to_tokens(short[:1]) == ["<|startofprev|>"]
    assert multilingual.decode(short[1:]) == " prima"
    long = previous_ids(multilingual, "alpha" + " the" * 500 + " end")
    assert len(long) == MAX_PREVIOUS_TOKENS + 1 == 224
    assert multilingual.decode(long[-2:]) == " the end"
