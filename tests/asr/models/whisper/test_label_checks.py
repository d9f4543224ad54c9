from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asr.errors import UserError
from asr.utterance import Utterance
from tests.train.checks.doctored import edit, edited, italian, subject, tiny_checkpoint
from train.checks.labels import generation, length, order, start


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A multilingual checkpoint to be spoilt."""
    return tiny_checkpoint(tmp_path / "checkpoint")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, of which only the generation config is spoilt, for one test at a time: its tokenizer is kept."""
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def suppress(content: dict[str, Any], token: int) -> None:
    content["suppress_tokens"].append(token)


@pytest.mark.medium
def test_a_tokenizer_that_starts_twice(tmp_path: Path, checkpoint: Path, english_clips: list[Utterance]) -> None:
    edit(checkpoint / "tokenizer_config.json", lambda content: content.update(eos_token="<|startoftranscript|>"))
    with pytest.raises(UserError, match=r"2 start-of-transcript tokens .*<\|startoftranscript\|>"):
        start(subject(tmp_path, checkpoint, italian(english_clips), "language=it"))


@pytest.mark.medium
def test_a_transcript_with_markup_of_its_own(tmp_path: Path, english_clips: list[Utterance]) -> None:
    marked = replace(english_clips[0], text="<|startoftranscript|> hello")
    outcome = start(subject(tmp_path, "builtin:tiny.en", [marked, *english_clips[1:4]]))
    assert outcome.state == "warning"
    assert marked.id in outcome.detail
    with pytest.raises(UserError, match="no transcript can be made a label"):
        start(subject(tmp_path, "builtin:tiny.en", [marked]))


@pytest.mark.medium
def test_a_tokenizer_whose_end_is_another_token(
    tmp_path: Path, checkpoint: Path, english_clips: list[Utterance]
) -> None:
    edit(checkpoint / "tokenizer_config.json", lambda content: content.update(eos_token="<|nospeech|>"))
    with pytest.raises(UserError, match=r"does not end with one <\|endoftext\|>"):
        order(subject(tmp_path, checkpoint, italian(english_clips), "language=it"))


@pytest.mark.medium
def test_a_tokenizer_that_does_not_spell_what_was_said(
    tmp_path: Path, checkpoint: Path, english_clips: list[Utterance]
) -> None:
    def add_a_word(content: dict[str, Any]) -> None:
        (token,) = (token for token in content["added_tokens"] if token["id"] == 50362)
        token.update(content="tasto", lstrip=True)  # swallows the space before it

    edit(checkpoint / "tokenizer.json", add_a_word)
    with pytest.raises(UserError, match="'Premere il tasto cancelletto' spell 'Premere iltasto cancelletto'"):
        order(subject(tmp_path, checkpoint, italian(english_clips), "language=it"))


@pytest.mark.medium
def test_a_tokenizer_of_another_checkpoint(tmp_path: Path, checkpoint: Path, english_clips: list[Utterance]) -> None:
    edit(checkpoint / "config.json", lambda content: content.update(vocab_size=50_000))
    with pytest.raises(UserError, match="beyond the network's vocabulary of 50000"):
        order(subject(tmp_path, checkpoint, italian(english_clips), "language=it"))


@pytest.mark.medium
def test_labels_over_448_tokens(tmp_path: Path, english_clips: list[Utterance]) -> None:
    wordy = replace(english_clips[0], text="word " * 500)
    outcome = length(subject(tmp_path, "builtin:tiny.en", [wordy, *english_clips[1:]]))
    assert outcome.state == "warning"
    assert "1 are longer" in outcome.detail and wordy.id in outcome.detail
    with pytest.raises(UserError, match="at least 1 of 3 labels are over 448 tokens"):
        length(subject(tmp_path, "builtin:tiny.en", [wordy, *english_clips[1:3]]))


@pytest.mark.medium
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"language": "<|fr|>"}, "says language=fr, the labels it"),
        ({"task": "translate"}, "says task=translate, the labels transcribe"),
        ({"decoder_start_token_id": 50257}, "says decoder_start_token_id=50257, the labels 50258"),
        ({"forced_decoder_ids": [[1, 50259], [2, 50359]]}, r"says forced_decoder_ids\[1\]=50259, the labels 50274"),
        ({"lang_to_id": {"<|it|>": 50259}}, r"says lang_to_id\[<\|it\|>\]=50259, the labels 50274"),
        ({"max_length": 5}, "stops transcripts at max_length=5"),
    ],
)
def test_a_generation_config_that_contradicts_the_labels(
    tmp_path: Path, tiny: Path, english_clips: list[Utterance], change: dict[str, Any], message: str
) -> None:
    with (
        edited(tiny / "generation_config.json", lambda content: content.update(change)),
        pytest.raises(UserError, match=message),
    ):
        generation(subject(tmp_path, tiny, italian(english_clips), "language=it"))


@pytest.mark.medium
def test_a_language_that_openai_leaves_open_contradicts_nothing(
    tmp_path: Path, tiny: Path, english_clips: list[Utterance]
) -> None:
    open_ids = {"forced_decoder_ids": [[1, None], [2, 50359]]}  # as in openai/whisper-small
    with edited(tiny / "generation_config.json", lambda content: content.update(open_ids)):
        assert generation(subject(tmp_path, tiny, italian(english_clips), "language=it")).state == "ok"


def test_a_suppressed_word_can_never_be_heard(tmp_path: Path, tiny: Path, english_clips: list[Utterance]) -> None:
    checked = subject(tmp_path, tiny, italian(english_clips), "language=it")
    token = checked.tokenizer(" tasto", add_special_tokens=False).input_ids[0]
    with (
        edited(tiny / "generation_config.json", lambda content: suppress(content, token)),
        pytest.raises(UserError, match=rf"suppresses token {token} .*which 2 of 4 labels hold"),
    ):
        generation(subject(tmp_path, tiny, italian(english_clips), "language=it"))


def test_a_suppressed_sign_is_a_warning(tmp_path: Path, tiny: Path, english_clips: list[Utterance]) -> None:
    outcome = generation(subject(tmp_path, tiny, italian(english_clips, "Numero: uno", "due"), "language=it"))
    assert outcome.state == "warning"
    assert "':' in 2" in outcome.detail


def test_a_beginning_that_is_forbidden(tmp_path: Path, tiny: Path, english_clips: list[Utterance]) -> None:
    clips = italian(english_clips)
    first = subject(tmp_path, tiny, clips, "language=it").labels[0][1][4]
    with (
        edited(tiny / "generation_config.json", lambda content: content["begin_suppress_tokens"].append(first)),
        pytest.raises(UserError, match=f"2 of 4 labels begin with a token .*remove {first} from"),
    ):
        generation(subject(tmp_path, tiny, clips, "language=it"))


def test_a_beginning_that_is_forbidden_to_few_is_a_warning(
    tmp_path: Path, tiny: Path, english_clips: list[Utterance]
) -> None:
    clips = italian(english_clips)
    first = subject(tmp_path, tiny, clips, "language=it").labels[0][1][4]
    with edited(tiny / "generation_config.json", lambda content: content["begin_suppress_tokens"].append(first)):
        outcome = generation(subject(tmp_path, tiny, clips, "language=it", "data.max_quarantined_share=0.5"))
    assert outcome.state == "warning"


def test_the_builtin_generation_config_is_the_published_one(tiny: Path) -> None:
    published = json.loads((tiny / "generation_config.json").read_text(encoding="utf-8"))
    assert 25 in published["suppress_tokens"]  # ":", which the test of a suppressed sign rests on
