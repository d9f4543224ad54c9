"""Tokenizer files of a CTC vocabulary, as plain transformers loads them: ours, and those of published checkpoints.

Characters are a Wav2Vec2CTCTokenizer (vocab.json), subwords a ParakeetTokenizer (tokenizer.json). The rules of the
texts are a key of tokenizer_config.json, which transformers keeps when it saves the tokenizer, and does not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from asr.errors import UserError, one_line
from asr.models.ctc.text_rules import (
    DELIMITER,
    WORD_START,
    Casing,
    TextRules,
    is_inside_words,
    is_spoken,
    rules_from_json,
)
from asr.models.ctc.vocabulary import PAD, UNKNOWN, CtcVocabulary
from asr.parsed import JsonObject
from asr.printable import printable

CONFIG, CHARACTERS, SUBWORDS = "tokenizer_config.json", "vocab.json", "tokenizer.json"
_RULES = "text_rules"
_CHARACTER_CLASS, _SUBWORD_CLASS = "Wav2Vec2CTCTokenizer", "ParakeetTokenizer"
_CHARACTER_CLASSES = (_CHARACTER_CLASS, "Wav2Vec2Tokenizer")
_SUBWORD_CLASSES = (_SUBWORD_CLASS, "LasrTokenizer", "PreTrainedTokenizer", "TokenizersBackend")
_DEFAULTS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": UNKNOWN, "pad_token": PAD}
_MARKUP = re.compile(r"<.+>|\[.+\]", re.S)
_MOST_SYMBOLS = 1_000_000
_REMEDY = "copy the checkpoint's tokenizer files anew"


def write_tokenizer(folder: Path, vocabulary: CtcVocabulary) -> None:
    """Write the vocabulary and its rules into a folder, as ``read_vocabulary`` and transformers' AutoTokenizer read it.

    vocab.json for characters, tokenizer.json for subwords, and tokenizer_config.json. Plain transformers decodes the
    likeliest symbols of all positions to the text that ``decode`` returns of ``collapse``.
    """
    config: JsonObject = {
        "tokenizer_class": _SUBWORD_CLASS if vocabulary.is_subword else _CHARACTER_CLASS,
        "pad_token": vocabulary.symbols[vocabulary.blank],
        "unk_token": None if vocabulary.unknown is None else vocabulary.symbols[vocabulary.unknown],
        # Not left out: transformers would add its own, with ids that the head has not.
        "bos_token": None,
        "eos_token": None,
        "clean_up_tokenization_spaces": False,
        _RULES: vocabulary.rules.as_json(),
    }
    if vocabulary.is_subword:
        (folder / SUBWORDS).write_text(vocabulary.subwords, encoding="utf-8")
    else:
        config |= {
            "word_delimiter_token": vocabulary.delimiter,
            "replace_word_delimiter_char": " ",
            "do_lower_case": False,
            "target_lang": None,
        }
        ids = {symbol: index for index, symbol in enumerate(vocabulary.symbols) if symbol}
        (folder / CHARACTERS).write_text(_as_text(ids), encoding="utf-8")
    (folder / CONFIG).write_text(_as_text(config), encoding="utf-8")


def read_vocabulary(folder: Path, target_language: str | None = None) -> CtcVocabulary:
    """Return the vocabulary of a checkpoint, ours or a published one, whose rules then follow from its symbols.

    ``target_language`` chooses one of a vocabulary for many languages (MMS: ``deu``); None is the one that the
    checkpoint names. Raises UserError where a file is missing or damaged, or the tokenizer is of another kind.
    """
    config = _json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    kind = str(config.get("tokenizer_class") or "").removesuffix("Fast") or None
    if kind in _CHARACTER_CLASSES or (kind is None and not (folder / SUBWORDS).is_file()):
        vocabulary = _read_characters(folder, config, target_language)
    elif kind is None or kind in _SUBWORD_CLASSES:
        vocabulary = _read_subwords(folder, config)
    else:
        what = f"{folder / CONFIG}: {printable(kind)} is no tokenizer of a CTC network that can be read here"
        raise UserError(what, f"it takes {_CHARACTER_CLASS} and {_SUBWORD_CLASS}")
    return vocabulary


def require_matches(vocabulary: CtcVocabulary, vocab_size: int, where: str) -> None:
    """Raise UserError where a head of ``vocab_size`` outputs does not go with the vocabulary; ``where`` is in it.

    Symbols without text may be missing at its end: transformers adds some itself, which no head was made for.
    """
    if "" in vocabulary.symbols[:vocab_size]:
        what = f"{where}: the vocabulary has no symbol of the number {vocabulary.symbols.index('')}, and the head has"
        raise UserError(what, "copy vocab.json anew, with its added_tokens.json if it has one")
    beyond = range(vocab_size, vocabulary.size)
    if vocab_size <= vocabulary.size and vocabulary.blank < vocab_size and vocabulary.silent.issuperset(beyond):
        return
    raise UserError(
        f"{where}: the head has {vocab_size} outputs, and the vocabulary {vocabulary.size} symbols",
        "the tokenizer is another checkpoint's, or the vocabulary another language's",
    )


def derived_rules(symbols: frozenset[str], language: str | None = None) -> TextRules:
    """Return the rules of a vocabulary that has none written down, from the characters that it writes.

    Letters of one case alone are its casing; without punctuation, but for what stands inside words, there is none.
    """
    upper = any(one != one.lower() for one in symbols)
    lower = any(one != one.upper() and len(one.upper()) == 1 for one in symbols)
    casing: Casing = "keep" if upper == lower else "upper" if upper else "lower"
    if language is None and casing != "keep" and {"ı", "İ"} & symbols:
        language = "tr"  # the only way to tell that I and i are two letters here
    bare = all(is_spoken(one) or is_inside_words(one) or not one.isprintable() for one in symbols)
    return TextRules(casing, "drop" if bare else "keep", language)


def _read_characters(folder: Path, config: JsonObject, target_language: str | None) -> CtcVocabulary:
    path = folder / CHARACTERS
    ids = _flat(path, _json(path), target_language or config.get("target_lang"))
    names = _special_names(folder, config)
    ids = _with_added(folder, config, path, ids)
    for one in filter(None, names.values()):
        ids.setdefault(one, max(ids.values(), default=-1) + 1)  # as transformers adds it
    if names["pad_token"] is None:
        raise UserError(f"{folder / CONFIG}: it names no pad_token, which is the blank of a CTC network", _REMEDY)
    symbols = _by_id(path, ids)
    delimiter = config.get("word_delimiter_token", DELIMITER)
    word_delimiter = next((ids[one] for one in (delimiter, " ") if isinstance(one, str) and one in ids), None)
    silent = {ids[one] for one in filter(None, names.values())} - {word_delimiter}
    silent |= {index for index, one in enumerate(symbols) if _MARKUP.fullmatch(one) and index != word_delimiter}
    if config.get("do_lower_case") is True:
        symbols = _lowered(path, symbols, silent)
    texts = frozenset(one for index, one in enumerate(symbols) if one and index not in silent | {word_delimiter})
    unknown = names["unk_token"]
    return CtcVocabulary(
        symbols,
        _rules(folder, config, texts),
        ids[names["pad_token"]],
        None if unknown is None else ids[unknown],
        word_delimiter,
        frozenset(silent),
    )


def _read_subwords(folder: Path, config: JsonObject) -> CtcVocabulary:
    from tokenizers import Tokenizer

    path = folder / SUBWORDS
    text = json.dumps(_json(path), ensure_ascii=False)
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises no type of its own
        raise UserError(f"{path}: a damaged tokenizer: {printable(one_line(error), 200)}", _REMEDY) from None
    ids = dict(tokenizer.get_vocab(with_added_tokens=True))
    names = _special_names(folder, config)
    blank = ids.get(names["pad_token"] or "")
    if blank is None:
        what = f"it has no '{printable(str(names['pad_token']))}', the blank of a CTC network"
        raise UserError(f"{path}: {what}", _REMEDY)
    symbols = _by_id(path, ids)
    added = tokenizer.get_added_tokens_decoder()
    silent = {ids[one] for one in filter(None, names.values()) if one in ids}
    silent |= {index for index, token in added.items() if token.special}
    texts = frozenset("".join(one for index, one in enumerate(symbols) if index not in silent)) - {WORD_START}
    unknown = ids.get(names["unk_token"] or "")
    return CtcVocabulary(symbols, _rules(folder, config, texts), blank, unknown, None, frozenset(silent), text)


def _rules(folder: Path, config: JsonObject, texts: frozenset[str]) -> TextRules:
    if _RULES not in config:
        return derived_rules(frozenset("".join(texts)))
    try:
        return rules_from_json(config[_RULES])
    except UserError as error:
        raise UserError(f"{folder / CONFIG}: {error.message}", error.hint) from None


def _json(path: Path) -> JsonObject:
    """Return the object in a file. Raises UserError where it is missing or none, or has halves of characters in it."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__})", _REMEDY) from None
    try:
        found = json.loads(raw)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise UserError(f"{path}: a damaged file, no JSON in UTF-8", _REMEDY) from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: a damaged file, no JSON object", _REMEDY)
    return found


def _flat(path: Path, vocab: JsonObject, target: object) -> dict[str, int]:
    """Return one language's ids of symbols. Raises UserError where there are several and none is chosen."""
    if any(isinstance(value, dict) for value in vocab.values()):
        chosen = vocab.get(target) if isinstance(target, str) else None
        if not isinstance(chosen, dict):
            what = f"no vocabulary for '{printable(str(target))}'" if target else "a vocabulary for many languages"
            raise UserError(f"{path}: {what}", f"choose one of {printable(', '.join(map(str, vocab)), 200)}")
        vocab = chosen
    return _checked(path, vocab)


def _checked(path: Path, ids: Mapping[str, object]) -> dict[str, int]:
    found = {one: index for one, index in ids.items() if isinstance(index, int) and 0 <= index < _MOST_SYMBOLS}
    if not ids or len(found) < len(ids) or any(isinstance(index, bool) for index in ids.values()):
        raise UserError(f"{path}: a damaged vocabulary: not every symbol has a number", _REMEDY)
    return found


def _by_id(path: Path, ids: Mapping[str, int]) -> tuple[str, ...]:
    symbols = [""] * (max(ids.values()) + 1)
    for symbol, index in ids.items():
        if symbols[index]:
            pair = f"'{printable(symbols[index])}' and '{printable(symbol)}'"
            raise UserError(f"{path}: a damaged vocabulary: {pair} are both {index}", _REMEDY)
        symbols[index] = symbol
    return tuple(symbols)


def _with_added(folder: Path, config: JsonObject, path: Path, ids: dict[str, int]) -> dict[str, int]:
    """Return the ids with those that were added to the vocabulary; its own go first, as in transformers."""
    added: dict[str, object] = {}
    if (folder / "added_tokens.json").is_file():
        added.update(_json(folder / "added_tokens.json"))
    decoder = config.get("added_tokens_decoder")
    for index, token in decoder.items() if isinstance(decoder, dict) else ():
        name = _name(token)
        if name and str(index).isdecimal() and len(str(index)) < 10:
            added[name] = int(index)
    taken = frozenset(ids.values())
    news = {
        one: index for one, index in added.items() if one not in ids and not (isinstance(index, int) and index in taken)
    }
    return {**ids, **_checked(path, news)} if news else ids


def _special_names(folder: Path, config: JsonObject) -> dict[str, str | None]:
    """Return the symbols without text by the names that transformers has for them."""
    older = folder / "special_tokens_map.json"
    given = {**(_json(older) if older.is_file() else {}), **config}
    return {key: _name(given.get(key, usual)) for key, usual in _DEFAULTS.items()}


def _name(token: object) -> str | None:
    """Return the text of a token, which is written alone or as an object."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) and content else None


def _lowered(path: Path, symbols: tuple[str, ...], silent: set[int]) -> tuple[str, ...]:
    """Return symbols of which transformers shows the lower case."""
    lower = tuple(one if index in silent else one.lower() for index, one in enumerate(symbols))
    if len(set(lower)) < len(set(symbols)):
        raise UserError(f"{path}: letters of both cases, and {CONFIG} has do_lower_case", "set it to false")
    return lower


def _as_text(value: JsonObject) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
