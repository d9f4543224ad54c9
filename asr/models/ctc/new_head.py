"""Makes the files of a new CTC head: the network that it makes of a checkpoint, and a vocabulary for transcripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from asr.errors import UserError
from asr.models.checkpoint import Checkpoint
from asr.models.ctc.decoder import require_language_model, require_words
from asr.models.ctc.language_adapters import LANGUAGE, require_language
from asr.models.ctc.text_rules import TextRules
from asr.models.ctc.tokenizer_files import read_vocabulary, write_tokenizer
from asr.models.ctc.vocabulary import CtcVocabulary, character_vocabulary, subword_vocabulary
from asr.models.head import HeadFiles, HeadSettings
from asr.parsed import JsonObject
from asr.printable import printable

_WHISPER = "whisper"
_EXTRACTORS = ("preprocessor_config.json", "processor_config.json")
_TOKENIZERS = ("vocab.json", "tokenizer.json")


def new_head(
    base: Checkpoint, settings: HeadSettings, language: str | None, texts: Callable[[], Iterable[str]]
) -> HeadFiles:
    """Return the files of a new head for a checkpoint; none where it keeps its own.

    Raises UserError where it has none to keep, the transcripts make no vocabulary, or the file of a language model is
    missing or damaged.
    """
    require_language_model(settings)
    config = _read(base.folder / "config.json")
    _require_encoder(base, config)
    own = settings.vocabulary != "transcripts" and _has_head(base.folder, config)
    if own and settings.target_language is None:
        require_words(settings, _kept(base, settings))
        return ()
    if settings.vocabulary == "checkpoint" and not own:
        raise UserError(f"{base.name} has no vocabulary and no CTC head", "set ctc.vocabulary=transcripts")
    if settings.target_language is not None:
        if not own:
            raise UserError("ctc.target_language takes the checkpoint's vocabulary of it", "set ctc.vocabulary=auto")
        require_language(base, settings.target_language)
        config[LANGUAGE] = settings.target_language
    vocabulary = _kept(base, settings) if own else _vocabulary(settings, language, texts())
    require_words(settings, vocabulary)
    config |= {"vocab_size": vocabulary.size, "pad_token_id": vocabulary.blank}
    config |= dict.fromkeys(("bos_token_id", "eos_token_id", "decoder_start_token_id"))
    if config.get("model_type") == _WHISPER:
        config |= {"model_type": "whisper_ctc", "architectures": ["WhisperForCTC"]}
        config |= {"is_encoder_decoder": False, "tie_word_embeddings": False}
    with TemporaryDirectory() as draft:
        folder = Path(draft)
        write_tokenizer(folder, vocabulary)
        made = {path.name: path.read_bytes() for path in folder.iterdir()}
    made["config.json"] = json.dumps(config, indent=2, sort_keys=True).encode()
    made |= {name: (base.folder / name).read_bytes() for name in _EXTRACTORS if (base.folder / name).is_file()}
    return tuple(sorted(made.items()))


def _require_encoder(base: Checkpoint, config: JsonObject) -> None:
    from asr.models.ctc.positions import has_type  # with it come torch and transformers' table of networks

    kind = config.get("model_type")
    if kind != _WHISPER and not (isinstance(kind, str) and has_type(kind)):
        what = f"{base.name} has no encoder of speech that a CTC head can be put on: its model_type is"
        raise UserError(
            f"{what} '{printable(str(kind), 60)}'", "take a Whisper, or what transformers' AutoModelForCTC knows"
        )


def _kept(base: Checkpoint, settings: HeadSettings) -> CtcVocabulary:
    """Return a checkpoint's own vocabulary. Raises UserError where it writes otherwise than settings say."""
    vocabulary = read_vocabulary(base.folder, settings.target_language)
    rules, usual = vocabulary.rules, HeadSettings()
    has: dict[str, str] = {"casing": rules.casing, "punctuation": rules.punctuation}
    has["unit"] = "subword" if vocabulary.is_subword else "character"
    if not any(letter != letter.lower() or letter != letter.upper() for letter in vocabulary.letters):
        del has["casing"]  # of a script without cases any is right
    for key, value in has.items():
        if getattr(settings, key) not in (getattr(usual, key), value):
            what = f"ctc.{key}={getattr(settings, key)}: {base.name} keeps its own vocabulary, of {key} '{value}'"
            raise UserError(what, f"set ctc.{key}={value}, or ctc.vocabulary=transcripts")
    return vocabulary


def _has_head(folder: Path, config: JsonObject) -> bool:
    listed = config.get("architectures")
    named = str(listed[0]) if isinstance(listed, list) and listed else ""
    return named.endswith("ForCTC") and any((folder / name).is_file() for name in _TOKENIZERS)


def _vocabulary(settings: HeadSettings, language: str | None, texts: Iterable[str]) -> CtcVocabulary:
    rules = TextRules(settings.casing, settings.punctuation, language)
    if settings.unit == "subword":
        return subword_vocabulary(texts, rules, settings.subwords)
    return character_vocabulary(texts, rules)


def _read(path: Path) -> JsonObject:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__})", "copy it from the checkpoint") from None
