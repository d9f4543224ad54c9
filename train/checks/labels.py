"""Steps of `check` that look at label tokens: what the network is taught to say, and whether it will be allowed to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from asr.errors import UserError
from asr.models.family import IGNORED
from asr.models.whisper.tokens import MAX_TOKENS, is_multilingual
from asr.utterance import Utterance
from train.checks.subject import CheckOutcome, Subject

_START, _END, _FLAG = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"
_SHOWN = 3
_REMEDY = "copy tokenizer.json and tokenizer_config.json from the base that it was fine-tuned from"


def base(subject: Subject) -> CheckOutcome:
    """The base is there, with a tokenizer and features."""
    return CheckOutcome("ok", f"{subject.checkpoint.name}, {subject.processor.about}")


def language(subject: Subject) -> CheckOutcome:
    """The base has a token for the language of each row."""
    counts = Counter(subject.language(row) for row in subject.training.utterances)
    for name in counts:
        subject.processor.require(name, subject.config.task)
    shown = ", ".join(f"{name or 'en'} ({count})" for name, count in counts.most_common())
    return CheckOutcome("ok", f"{shown}, task {subject.config.task}")


def start(subject: Subject) -> CheckOutcome:
    """Each label has one start-of-transcript, and the decoder is given it once and never asked for it."""
    token = _id(subject, _START)
    if not subject.labels:
        first = subject.unlabelled[0]
        raise UserError(
            f"no transcript can be made a label, such as '{first.id}': {first.reason} {first.detail}",
            "mend the transcripts",
        )
    for row, ids in subject.labels:
        if ids.count(token) != 1:
            raise UserError(
                f"'{row.id}': {ids.count(token)} start-of-transcript tokens in its label {_shown(subject, ids)}",
                f"the tokenizer of '{subject.config.base}' adds tokens of its own: {_REMEDY}",
            )
    batch = subject.batch
    for inputs, labels in zip(batch["decoder_input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        if inputs.count(token) != 1 or token in labels:
            raise UserError(f"a batch starts transcripts twice: {_shown(subject, inputs)}", "this is a bug: report it")
    detail = f"one in each of {len(subject.labels)} labels"
    markup = [row for row in subject.unlabelled if row.reason == "special_token"]
    if markup:
        detail += f"; '{markup[0].id}' goes into quarantine: {markup[0].detail}"
        return CheckOutcome("warning", detail, "mend the transcript")
    return CheckOutcome("ok", detail)


def order(subject: Subject) -> CheckOutcome:
    """Language, task, flag, text and end stand where Whisper expects them, and the tokens spell the transcript."""
    end = _id(subject, _END)
    size = json.loads((subject.checkpoint.folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    for row, ids in subject.labels:
        expected = [_id(subject, token) for token in _prompt(subject, row)]
        if ids[: len(expected)] != expected:
            raise UserError(
                f"'{row.id}': its label starts with {_shown(subject, ids)}, not with {' '.join(_prompt(subject, row))}",
                _REMEDY,
            )
        if ids[-1] != end or end in ids[:-1]:
            raise UserError(f"'{row.id}': its label does not end with one {_END}: {_shown(subject, ids[-4:])}", _REMEDY)
        if max(ids) >= size:
            raise UserError(
                f"'{row.id}': token {max(ids)} is beyond the network's vocabulary of {size}",
                f"tokenizer and weights of '{subject.config.base}' belong to different checkpoints",
            )
        text = ids[len(expected) : -1]
        spelt = str(subject.tokenizer.decode(text, clean_up_tokenization_spaces=False)).strip()
        if spelt != row.text.strip():
            raise UserError(f"'{row.id}': the tokens of {row.text.strip()!r} spell {spelt!r}", _REMEDY)
    return CheckOutcome("ok", f"{' '.join(_prompt(subject, subject.labels[0][0]))} text {_END}")


def length(subject: Subject) -> CheckOutcome:
    """Labels fit the decoder."""
    longest = max((len(ids) for _, ids in subject.labels), default=0)
    long = [row for row in subject.unlabelled if row.reason == "label_too_long"]
    count = len(subject.training.utterances)
    detail = f"{len(subject.labels)} of {count} sampled, the longest first: {longest} of {MAX_TOKENS} tokens"
    if len(long) > subject.config.data.max_quarantined_share * count:
        raise UserError(
            f"at least {len(long)} of {count} labels are over {MAX_TOKENS} tokens, such as '{long[0].id}'",
            "cut these recordings into shorter ones, or give segment times and data.long_clips=split",
        )
    if long:
        return CheckOutcome(
            "warning", f"{detail}; {len(long)} are longer, such as '{long[0].id}'", "they go into quarantine"
        )
    return CheckOutcome("ok", detail)


def generation(subject: Subject) -> CheckOutcome:
    """What decoding is told by the base's generation config, which the artifact inherits, fits the labels."""
    for key, (given, wanted) in _told(subject).items():
        if given is not None and given != wanted:
            raise UserError(
                f"generation_config.json of '{subject.config.base}' says {key}={given}, the labels {wanted}",
                f"correct it in {subject.checkpoint.folder / 'generation_config.json'}, or choose another base",
            )
    longest = max(len(ids) for _, ids in subject.labels)
    most = subject.generation.max_length
    if most is not None and most < longest:
        raise UserError(
            f"generation_config.json stops transcripts at max_length={most}, and a label has {longest} tokens",
            f"set max_length to {MAX_TOKENS} in {subject.checkpoint.folder / 'generation_config.json'}",
        )
    return _suppressed(subject)


def _told(subject: Subject) -> dict[str, tuple[object, object]]:
    """Return what the generation config says and what the labels say, by the config's key."""
    config, first = subject.generation, subject.labels[0]
    told: dict[str, tuple[object, object]] = {
        "decoder_start_token_id": (config.decoder_start_token_id, first[1][0]),
        "eos_token_id": (_single(config.eos_token_id), first[1][-1]),
        "no_timestamps_token_id": (getattr(config, "no_timestamps_token_id", None), _id(subject, _FLAG)),
    }
    if not is_multilingual(subject.tokenizer):
        return told
    spoken = subject.language(first[0])
    languages, tasks = getattr(config, "lang_to_id", None) or {}, getattr(config, "task_to_id", None) or {}
    told |= {
        f"lang_to_id[<|{spoken}|>]": (languages.get(f"<|{spoken}|>"), first[1][1]),
        f"task_to_id[{subject.config.task}]": (tasks.get(subject.config.task), first[1][2]),
        "task": (getattr(config, "task", None), subject.config.task),
    }
    alone = {subject.language(row) for row, _ in subject.labels} == {spoken}
    said = getattr(config, "language", None)
    if said is not None and alone:
        told["language"] = (str(said).strip("<|>"), spoken)
    for position, token in getattr(config, "forced_decoder_ids", None) or []:
        if token is not None and position < 3 and alone:
            told[f"forced_decoder_ids[{position}]"] = (token, first[1][position])
    return told


def _suppressed(subject: Subject) -> CheckOutcome:
    """A word whose token decoding suppresses can be learnt, but never said."""
    never, first = set(subject.generation.suppress_tokens or []), set(subject.generation.begin_suppress_tokens or [])
    texts = [(row, ids[len(_prompt(subject, row)) : -1]) for row, ids in subject.labels]
    met = Counter(token for _, text in texts for token in set(text) & never)
    words = {token: str(subject.tokenizer.decode([token])) for token, _ in met.most_common()}
    for token, word in words.items():
        if any(map(str.isalnum, word)) or "\ufffd" in word:  # the latter: a part of a letter
            raise UserError(
                f"generation_config.json suppresses token {token} ({word!r}), which {met[token]} of {len(texts)} "
                "labels hold: it would be learnt, but never be heard",
                f"remove it from suppress_tokens in {subject.checkpoint.folder / 'generation_config.json'}",
            )
    begun = [(row, text[0]) for row, text in texts if text[0] in first]
    if begun:
        row, token = begun[0]
        detail = (
            f"{len(begun)} of {len(texts)} labels begin with a token that begin_suppress_tokens forbids there, such as "
            f"'{row.id}' with {_shown(subject, [token])}: decoding must go another way than training"
        )
        hint = f"remove {token} from it in {subject.checkpoint.folder / 'generation_config.json'}"
        if len(begun) > subject.config.data.max_quarantined_share * len(texts):
            raise UserError(detail, hint)
        return CheckOutcome("warning", detail, hint)
    if words:
        shown = ", ".join(f"{word!r} in {met[token]}" for token, word in list(words.items())[:_SHOWN])
        detail = f"signs that decoding suppresses, in {len(texts)} labels: {shown}"
        return CheckOutcome(
            "warning", detail, "no word is lost; taken out of the transcripts, nothing is learnt in vain"
        )
    return CheckOutcome(
        "ok", f"start, language, task, end as in the labels; none of {len(never)} suppressed tokens occurs"
    )


def _prompt(subject: Subject, row: Utterance) -> list[str]:
    if not is_multilingual(subject.tokenizer):
        return [_START, _FLAG]
    return [_START, f"<|{subject.language(row)}|>", f"<|{subject.config.task}|>", _FLAG]


def _id(subject: Subject, token: str) -> int:
    return int(subject.tokenizer.convert_tokens_to_ids(token))


def _single(value: object) -> object:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _shown(subject: Subject, ids: Sequence[int]) -> str:
    return " ".join(map(str, subject.tokenizer.convert_ids_to_tokens([i for i in ids[:6] if i != IGNORED])))
