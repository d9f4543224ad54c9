"""Checks of Whisper's label tokens for `check`: what the network is taught to say, and whether it may say it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from asr.errors import UserError
from asr.models.processor import IGNORED
from asr.models.training import Finding, LabelSample
from asr.models.whisper.tokens import MAX_TOKENS, is_multilingual
from asr.utterance import Utterance

_START, _END, _FLAG = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"
_SHOWN = 3
_REMEDY = "copy tokenizer.json and tokenizer_config.json from the base that it was fine-tuned from"


def start(sample: LabelSample) -> Finding:
    """Check that each label has one start-of-transcript, given to the decoder once and never asked of it."""
    token = _id(sample, _START)
    if not sample.labels:
        first = sample.unlabelled[0]
        raise UserError(
            f"no transcript can be made a label, such as '{first.id}': {first.reason} {first.detail}",
            "mend the transcripts",
        )
    for row, ids in sample.labels:
        if ids.count(token) != 1:
            raise UserError(
                f"'{row.id}': {ids.count(token)} start-of-transcript tokens in its label {_shown(sample, ids)}",
                f"the tokenizer of '{sample.base}' adds tokens of its own: {_REMEDY}",
            )
    batch = sample.batch
    for inputs, labels in zip(batch["decoder_input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        if inputs.count(token) != 1 or token in labels:
            raise UserError(f"a batch starts transcripts twice: {_shown(sample, inputs)}", "this is a bug: report it")
    detail = f"one in each of {len(sample.labels)} labels"
    markup = [row for row in sample.unlabelled if row.reason == "special_token"]
    if markup:
        detail += f"; '{markup[0].id}' goes into quarantine: {markup[0].detail}"
        return detail, "mend the transcript"
    return detail, ""


def order(sample: LabelSample) -> Finding:
    """Language, task, flag, text and end stand where Whisper expects them, and the tokens spell the transcript."""
    end = _id(sample, _END)
    size = json.loads((sample.folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    for row, ids in sample.labels:
        expected = [_id(sample, token) for token in _prompt(sample, row)]
        if ids[: len(expected)] != expected:
            raise UserError(
                f"'{row.id}': its label starts with {_shown(sample, ids)}, not with {' '.join(_prompt(sample, row))}",
                _REMEDY,
            )
        if ids[-1] != end or end in ids[:-1]:
            raise UserError(f"'{row.id}': its label does not end with one {_END}: {_shown(sample, ids[-4:])}", _REMEDY)
        if max(ids) >= size:
            raise UserError(
                f"'{row.id}': token {max(ids)} is beyond the network's vocabulary of {size}",
                f"tokenizer and weights of '{sample.base}' belong to different checkpoints",
            )
        text = ids[len(expected) : -1]
        spelt = str(sample.tokenizer.decode(text, clean_up_tokenization_spaces=False)).strip()
        if spelt != row.text.strip():
            raise UserError(f"'{row.id}': the tokens of {row.text.strip()!r} spell {spelt!r}", _REMEDY)
    return f"{' '.join(_prompt(sample, sample.labels[0][0]))} text {_END}", ""


def length(sample: LabelSample) -> Finding:
    """Check that labels fit the decoder."""
    longest = max((len(ids) for _, ids in sample.labels), default=0)
    long = [row for row in sample.unlabelled if row.reason == "label_too_long"]
    count = sample.utterances
    detail = f"{len(sample.labels)} of {count} sampled, the longest first: {longest} of {MAX_TOKENS} tokens"
    if len(long) > sample.max_quarantined_share * count:
        raise UserError(
            f"at least {len(long)} of {count} labels are over {MAX_TOKENS} tokens, such as '{long[0].id}'",
            "cut these recordings into shorter ones, or give segment times and data.long_clips=split",
        )
    if long:
        return f"{detail}; {len(long)} are longer, such as '{long[0].id}'", "they go into quarantine"
    return detail, ""


def generation(sample: LabelSample) -> Finding:
    """Check that the base's generation config, which the artifact inherits, decodes as the labels are written."""
    for key, (given, wanted) in _told(sample).items():
        if given is not None and given != wanted:
            raise UserError(
                f"generation_config.json of '{sample.base}' says {key}={given}, the labels {wanted}",
                f"correct it in {sample.folder / 'generation_config.json'}, or choose another base",
            )
    longest = max(len(ids) for _, ids in sample.labels)
    most = sample.generation.max_length
    if most is not None and most < longest:
        raise UserError(
            f"generation_config.json stops transcripts at max_length={most}, and a label has {longest} tokens",
            f"set max_length to {MAX_TOKENS} in {sample.folder / 'generation_config.json'}",
        )
    return _suppressed(sample)


def _told(sample: LabelSample) -> dict[str, tuple[object, object]]:
    """Return what the generation config says and what the labels say, by the config's key."""
    config, first = sample.generation, sample.labels[0]
    told: dict[str, tuple[object, object]] = {
        "decoder_start_token_id": (config.decoder_start_token_id, first[1][0]),
        "eos_token_id": (_single(config.eos_token_id), first[1][-1]),
        "no_timestamps_token_id": (getattr(config, "no_timestamps_token_id", None), _id(sample, _FLAG)),
    }
    if not is_multilingual(sample.tokenizer):
        return told
    spoken = sample.language(first[0])
    languages, tasks = getattr(config, "lang_to_id", None) or {}, getattr(config, "task_to_id", None) or {}
    told |= {
        f"lang_to_id[<|{spoken}|>]": (languages.get(f"<|{spoken}|>"), first[1][1]),
        f"task_to_id[{sample.task}]": (tasks.get(sample.task), first[1][2]),
        "task": (getattr(config, "task", None), sample.task),
    }
    alone = {sample.language(row) for row, _ in sample.labels} == {spoken}
    said = getattr(config, "language", None)
    if said is not None and alone:
        told["language"] = (str(said).strip("<|>"), spoken)
    for position, token in getattr(config, "forced_decoder_ids", None) or []:
        if token is not None and position < 3 and alone:
            told[f"forced_decoder_ids[{position}]"] = (token, first[1][position])
    return told


def _suppressed(sample: LabelSample) -> Finding:
    """A word whose token decoding suppresses can be learnt, but never said."""
    never, first = set(sample.generation.suppress_tokens or []), set(sample.generation.begin_suppress_tokens or [])
    texts = [(row, ids[len(_prompt(sample, row)) : -1]) for row, ids in sample.labels]
    met = Counter(token for _, text in texts for token in set(text) & never)
    words = {token: str(sample.tokenizer.decode([token])) for token, _ in met.most_common()}
    for token, word in words.items():
        if any(map(str.isalnum, word)) or "\ufffd" in word:  # the latter: a part of a letter
            raise UserError(
                f"generation_config.json suppresses token {token} ({word!r}), which {met[token]} of {len(texts)} "
                "labels hold: it would be learnt, but never be decoded",
                f"remove it from suppress_tokens in {sample.folder / 'generation_config.json'}",
            )
    begun = [(row, text[0]) for row, text in texts if text[0] in first]
    if begun:
        row, token = begun[0]
        detail = (
            f"{len(begun)} of {len(texts)} labels begin with a token that begin_suppress_tokens forbids there, such as "
            f"'{row.id}' with {_shown(sample, [token])}: decoding must go another way than training"
        )
        hint = f"remove {token} from it in {sample.folder / 'generation_config.json'}"
        if len(begun) > sample.max_quarantined_share * len(texts):
            raise UserError(detail, hint)
        return detail, hint
    if words:
        shown = ", ".join(f"{word!r} in {met[token]}" for token, word in list(words.items())[:_SHOWN])
        detail = f"signs that decoding suppresses, in {len(texts)} labels: {shown}"
        return detail, "no word is lost; taken out of the transcripts, nothing is learnt in vain"
    return f"start, language, task, end as in the labels; none of {len(never)} suppressed tokens occurs", ""


def _prompt(sample: LabelSample, row: Utterance) -> list[str]:
    if not is_multilingual(sample.tokenizer):
        return [_START, _FLAG]
    return [_START, f"<|{sample.language(row)}|>", f"<|{sample.task}|>", _FLAG]


def _id(sample: LabelSample, token: str) -> int:
    return int(sample.tokenizer.convert_tokens_to_ids(token))


def _single(value: object) -> object:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _shown(sample: LabelSample, ids: Sequence[int]) -> str:
    return " ".join(map(str, sample.tokenizer.convert_ids_to_tokens([i for i in ids[:6] if i != IGNORED])))
