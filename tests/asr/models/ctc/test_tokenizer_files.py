import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, Wav2Vec2CTCTokenizer

from asr.errors import DataError, UserError
from asr.models.checkpoint import Checkpoint
from asr.models.ctc.processor import load_processor
from asr.models.ctc.text_rules import TextRules
from asr.models.ctc.tokenizer_files import derived_rules, read_vocabulary, require_matches, write_tokenizer
from asr.models.ctc.vocabulary import CtcVocabulary, character_vocabulary, subword_vocabulary
from tests.asr.models.ctc import tiny

TEXTS = [
    *("Voilà l'été: don't panic!", "IŞIK İyi", "你好，世界", "ދިވެހިރާއްޖެ", "नमस्ते दुनिया", "الْحَمْدُ لِلَّهِ", "می\u200cروم"),
    "a<pad>b [UNK] <s> x|y ▁z <unk>",
]
LIBRISPEECH = dict.fromkeys(["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"])
LIBRISPEECH_VOCAB = {symbol: index for index, symbol in enumerate(LIBRISPEECH)}
SPECIALS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def made(kind: str) -> CtcVocabulary:
    if kind == "subwords":
        return subword_vocabulary(TEXTS, TextRules(), 130)
    return character_vocabulary(TEXTS, TextRules("keep", "drop" if kind == "bare" else "keep"))


def published(folder: Path, **files: dict[str, Any]) -> Path:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


@pytest.fixture(scope="module", params=["characters", "bare", "subwords"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[CtcVocabulary, Any]:
    folder, vocabulary = tmp_path_factory.mktemp("tokenizer"), made(request.param)
    write_tokenizer(folder, vocabulary)
    return vocabulary, AutoTokenizer.from_pretrained(folder)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10_000), max_size=60))
def test_plain_transformers_says_the_same_of_any_path(pair: tuple[CtcVocabulary, Any], path: list[int]) -> None:
    vocabulary, tokenizer = pair
    heard = np.array([one % vocabulary.size for one in path], np.int64)
    heard = heard[heard != vocabulary.unknown]
    assert vocabulary.decode(vocabulary.collapse(heard)) == tokenizer.decode(heard.tolist())


@pytest.mark.parametrize("text", TEXTS)
def test_plain_transformers_says_the_same_of_a_text(pair: tuple[CtcVocabulary, Any], text: str) -> None:
    vocabulary, tokenizer = pair
    path = [step for one in vocabulary.encode(text) for step in (one, one, vocabulary.blank)]
    assert tokenizer.decode(path) == tokenizer.batch_decode([path])[0] == vocabulary.rules.apply(text)


def test_transformers_counts_as_many_symbols_and_has_the_same_blank(pair: tuple[CtcVocabulary, Any]) -> None:
    vocabulary, tokenizer = pair
    assert len(tokenizer) == vocabulary.size
    assert tokenizer.pad_token_id == vocabulary.blank
    assert tokenizer.convert_ids_to_tokens(list(range(vocabulary.size))) == list(vocabulary.symbols)


@pytest.mark.parametrize("kind", ["characters", "bare", "subwords"])
def test_a_vocabulary_is_read_as_it_was_written(kind: str, tmp_path: Path) -> None:
    vocabulary = made(kind)
    write_tokenizer(tmp_path, vocabulary)
    again = read_vocabulary(tmp_path)
    assert (again.symbols, again.rules) == (vocabulary.symbols, vocabulary.rules)
    for text in TEXTS:
        assert again.encode(text) == vocabulary.encode(text)


def test_a_vocabulary_without_a_delimiter_is_read_as_it_was_written(tmp_path: Path) -> None:
    vocabulary = character_vocabulary(["你好"], TextRules(language="zh"))
    write_tokenizer(tmp_path, vocabulary)
    assert read_vocabulary(tmp_path) == vocabulary


@pytest.mark.parametrize("kind", ["characters", "subwords"])
def test_rules_survive_that_transformers_saves_the_tokenizer(kind: str, tmp_path: Path) -> None:
    vocabulary = made(kind)
    write_tokenizer(tmp_path, vocabulary)
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    again = read_vocabulary(tmp_path / "again")
    assert (again.symbols, again.rules, again.silent) == (vocabulary.symbols, vocabulary.rules, vocabulary.silent)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "wav2vec2-bert", "whisper", "parakeet_ctc"])
def test_the_tokenizer_is_found_beside_the_config_of_any_network(kind: str, tmp_path: Path) -> None:
    for vocabulary in (made("characters"), made("subwords")):
        write_tokenizer(tmp_path, vocabulary)
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
        assert AutoTokenizer.from_pretrained(tmp_path).decode(vocabulary.encode("Voilà")) == "Voilà"


def test_upper_case_of_librispeech_meets_lower_case_transcripts(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(published(tmp_path, vocab=LIBRISPEECH_VOCAB, tokenizer_config=SPECIALS))
    assert vocabulary.rules == TextRules("upper", "drop")
    assert (vocabulary.blank, vocabulary.unknown, vocabulary.word_delimiter) == (0, 3, 4)
    assert vocabulary.silent == {0, 1, 2, 3}
    require_matches(vocabulary, len(LIBRISPEECH_VOCAB), "config.json")
    assert vocabulary.decode(vocabulary.encode("It’s a well-known “cat”.")) == "IT'S A WELL KNOWN CAT"
    with pytest.raises(DataError, match="É"):
        vocabulary.encode("café")


def test_the_vocabulary_of_one_language_is_chosen_among_many(tmp_path: Path) -> None:
    special = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}
    nested = {"eng": {**special, "a": 5, "-": 6}, "tur": {**special, "ı": 5, "i": 6, "ş": 7}}
    config = {**SPECIALS, "tokenizer_class": "Wav2Vec2CTCTokenizer", "target_lang": "eng"}
    published(tmp_path, vocab=nested, tokenizer_config=config)
    assert read_vocabulary(tmp_path).encode("A-a") == [5, 6, 5]
    turkish = read_vocabulary(tmp_path, "tur")
    assert turkish.rules == TextRules("lower", "drop", "tr")
    assert turkish.encode("IŞİ") == [5, 7, 6]
    with pytest.raises(UserError, match="no vocabulary for 'fra'"):
        read_vocabulary(tmp_path, "fra")
    published(tmp_path, tokenizer_config=SPECIALS)
    with pytest.raises(UserError, match="many languages"):
        read_vocabulary(tmp_path)


def test_symbols_that_transformers_adds_itself_may_be_beyond_the_head(tmp_path: Path) -> None:
    vocab = {"a": 0, "|": 1, "[UNK]": 2, "[PAD]": 3}
    config = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    vocabulary = read_vocabulary(published(tmp_path, vocab=vocab, tokenizer_config=config))
    assert vocabulary.symbols == ("a", "|", "[UNK]", "[PAD]", "<s>", "</s>")
    assert vocabulary.blank == 3
    require_matches(vocabulary, 4, "here")
    require_matches(vocabulary, 6, "here")
    for other in (3, 7):
        with pytest.raises(UserError, match=f"here: the head has {other} outputs, and the vocabulary 6 symbols"):
            require_matches(vocabulary, other, "here")


def test_added_tokens_have_their_ids(tmp_path: Path) -> None:
    published(tmp_path, vocab={"a": 0, "|": 1}, added_tokens={"<pad>": 2, "<unk>": 3, "<s>": 5, "</s>": 4})
    assert read_vocabulary(tmp_path).symbols == ("a", "|", "<pad>", "<unk>", "</s>", "<s>")


def test_lower_case_that_transformers_shows_is_the_vocabulary(tmp_path: Path) -> None:
    published(tmp_path, vocab=LIBRISPEECH_VOCAB, tokenizer_config={**SPECIALS, "do_lower_case": True})
    vocabulary, plain = read_vocabulary(tmp_path), Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
    assert vocabulary.rules.casing == "lower"
    ids = vocabulary.encode("Hat it")
    assert vocabulary.decode(ids) == plain.decode(ids) == "hat it"


def test_published_subwords_are_read_with_their_own_blank(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0), ("▁", -3.0), ("▁the", -2.0), *((one, -4.0) for one in "thecat"[1:]), ("t", -4.0)]
    tokenizer = Tokenizer(models.Unigram(list(dict(pieces).items()), unk_id=0))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken("<pad>", special=True), AddedToken("<unk>", special=True)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    published(tmp_path, tokenizer_config={"tokenizer_class": "ParakeetTokenizerFast", "pad_token": "<pad>"})
    vocabulary = read_vocabulary(tmp_path)
    assert vocabulary.blank == vocabulary.size - 1
    assert vocabulary.unknown == 0
    assert vocabulary.rules == TextRules("lower", "drop")
    ids = vocabulary.encode("The cat!")
    assert vocabulary.decode(ids) == AutoTokenizer.from_pretrained(tmp_path).decode(ids) == "the cat"
    with pytest.raises(DataError, match="o z"):
        vocabulary.encode("the zoo")


def test_no_text_spells_a_piece_without_text(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0), ("<pad>", 0.0), *((one, -4.0) for one in "▁<>pad")]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary = read_vocabulary(tmp_path)
    assert vocabulary.rules.punctuation == "keep"
    assert not {0, 1} & set(vocabulary.encode("ad<pad><<pad>pad>"))


@pytest.mark.parametrize(
    ("symbols", "rules"),
    [
        ("ab'-", TextRules("lower", "drop")),
        ("ABß", TextRules("upper", "drop")),
        ("aB", TextRules("keep", "drop")),
        ("ab,", TextRules("lower", "keep")),
        ("你好", TextRules("keep", "drop")),
        ("کي\u200c", TextRules("keep", "drop")),
        ("aıi", TextRules("lower", "drop", "tr")),
        ("AIİ", TextRules("upper", "drop", "tr")),
    ],
)
def test_rules_follow_from_the_symbols(symbols: str, rules: TextRules) -> None:
    assert derived_rules(frozenset(symbols)) == rules


GOOD = {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("vocab.json", None, "cannot be read"),
        ("vocab.json", "", "damaged file"),
        ("vocab.json", "[1]", "no JSON object"),
        ("vocab.json", "{}", "not every symbol has a number"),
        ("vocab.json", '{"a": "0"}', "not every symbol has a number"),
        ("vocab.json", '{"a": -1}', "not every symbol has a number"),
        ("vocab.json", '{"a": true}', "not every symbol has a number"),
        ("vocab.json", '{"a": 1000000000000}', "not every symbol has a number"),
        ("vocab.json", '{"a": 0, "b": 0}', "'a' and 'b' are both 0"),
        ("vocab.json", '{"\\ud800": 0}', "damaged file"),
        pytest.param("vocab.json", "[" * 100_000, "damaged file", id="deep"),
        ("tokenizer_config.json", "{", "damaged file"),
        ("tokenizer_config.json", '{"pad_token": null}', "no pad_token"),
        ("tokenizer_config.json", '{"tokenizer_class": "WhisperTokenizer"}', "is no tokenizer of a CTC network"),
        ("tokenizer_config.json", '{"text_rules": {"casing": "odd"}}', "tokenizer_config.json: its rules of text"),
        ("tokenizer_config.json", '{"tokenizer_class": "ParakeetTokenizer"}', "tokenizer.json: cannot be read"),
        ("tokenizer.json", '{"version": "1.0"}', "a damaged tokenizer"),
        ("added_tokens.json", '{"b": "x"}', "not every symbol has a number"),
    ],
)
def test_a_damaged_file_is_told_in_one_line(name: str, content: str | None, told: str, tmp_path: Path) -> None:
    published(tmp_path, vocab=GOOD)
    (tmp_path / name).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=told) as caught:
        read_vocabulary(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 6) | st.sampled_from(["<pad>", "a", "|", " ", "\0", "0", "9" * 5000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "|", "content", "3"]), inner),
    max_leaves=6,
)
KEYS = ["pad_token", "unk_token", "bos_token", "word_delimiter_token", "do_lower_case", "target_lang", "text_rules"]


@pytest.mark.medium
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(["<pad>", "a", "A", "|", " ", "<s>"]), st.integers(0, 6) | JSON),
    st.dictionaries(st.sampled_from([*KEYS, "tokenizer_class", "added_tokens_decoder"]), JSON),
    st.dictionaries(st.sampled_from(["<pad>", "b"]), JSON),
)
def test_any_file_is_read_or_told_of(
    tmp_path: Path, vocab: dict[str, Any], config: dict[str, Any], added: dict[str, Any]
) -> None:
    published(tmp_path, vocab=vocab, tokenizer_config=config, added_tokens=added)
    try:
        vocabulary = read_vocabulary(tmp_path)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert 0 <= vocabulary.blank < vocabulary.size
    assert isinstance(vocabulary.decode(range(vocabulary.size)), str)


def test_letters_of_both_cases_cannot_be_shown_in_one(tmp_path: Path) -> None:
    published(tmp_path, vocab={**GOOD, "A": 4}, tokenizer_config={"do_lower_case": True})
    with pytest.raises(UserError, match="both cases"):
        read_vocabulary(tmp_path)


def test_a_published_normalizer_that_makes_what_no_piece_spells_is_told_of(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE({"<unk>": 0, "<pad>": 1, "▁": 2, "a": 3, "b": 4}, [], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("ab", "z"), normalizers.Replace("ª", "a")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary = read_vocabulary(tmp_path)
    assert vocabulary.encode("ª b") == [2, 3, 2, 4]
    with pytest.raises(DataError, match="unknown_letters: ab"):
        vocabulary.encode("ab")


def test_a_vocabulary_that_lacks_a_symbol_of_the_head_in_its_midst_was_read_as_silence(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "wav2vec2-base-960h")
    symbols = json.loads((folder / "vocab.json").read_text())
    number = symbols.pop("m")
    (folder / "vocab.json").write_text(json.dumps(symbols))
    with pytest.raises(UserError, match=f"the vocabulary has no symbol of the number {number}, and the head has"):
        load_processor(Checkpoint("tiny", folder, "sha256:1"))
