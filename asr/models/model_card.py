"""The README of an artifact: the model card that people read, and the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from asr import language
from asr.models.checkpoint import hub_id
from asr.models.family import CTC
from asr.parsed import JsonObject

if TYPE_CHECKING:
    from asr.models.artifact import Card  # which imports this module

CURVE = "learning_curve.png"
_OURS = "whisper_ctc"  # a network that transformers does not have
_MERGED = "Other software needs it merged: `whisperfleet export` writes a whole model."
_UNKNOWN = (
    "Its network, Whisper's encoder and a linear layer over characters, is whisperfleet's own (`whisper_ctc`): plain "
    "transformers does not load it, merged or not."
)


def readme(card: Card, folder: Path) -> str:
    """Return front matter, then what a reader needs to use and judge the model in a folder, whose card this is."""
    is_ctc = card.family == CTC
    network = _network(folder) if is_ctc else ""
    front = {
        "base_model": hub_id(card.lineage[-1].name if card.lineage else card.base.name),
        "language": card.language,
        "library_name": _library(card, network),
        "pipeline_tag": "automatic-speech-recognition",
        "tags": [card.family, "whisperfleet"],
        "metrics": ["wer", "cer"],
    }
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in front.items()), "---", ""]
    spoken = language.name(card.language) if card.language else "many languages"
    lines += [
        f"# {'CTC' if is_ctc else 'Whisper'} for {spoken}",
        "",
        f"{_kind(card)} `{card.base.name}` ({card.task}).",
        "",
    ]
    if card.lineage:
        made = [f"`{one.name}`" + (f" ({one.fingerprint})" if one.fingerprint else "") for one in card.lineage]
        lines += [f"It was made from {', which was made from '.join(made)}.", ""]
    if network == _OURS:
        lines += [_UNKNOWN, ""]
    elif card.weights == "adapter" and (card.lineage or is_ctc):
        lines += [_MERGED, ""]
    lines += _scores(card)
    if CURVE in card.files:
        lines += [f"![learning curve]({CURVE})", ""]
    lines += [
        f"It takes {_context(card, network)}. `card.json` holds the configuration, the data's fingerprint and all "
        "digests.",
        "",
    ]
    return "\n".join(lines)


def _network(folder: Path) -> str:
    """Return the type of the network that an artifact's config.json describes, as transformers calls it."""
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError):  # its loading tells of that
        return ""


def _library(card: Card, network: str) -> str:
    if network == _OURS:
        return "whisperfleet"
    return "peft" if card.weights == "adapter" else "transformers"


def _kind(card: Card) -> str:
    match card.family == CTC, card.weights == "adapter":
        case True, True:
            return "A CTC head, which writes the characters that are heard, and a LoRA adapter for"
        case True, False:
            return "A CTC model, which writes the characters that are heard, fine-tuned from"
        case _, is_adapter:
            return "A LoRA adapter for" if is_adapter else "A full fine-tune of"


def _context(card: Card, network: str) -> str:
    if card.family == CTC and network != _OURS:
        return "clips of at most 30 s at their own length"
    return "clips at their own length, or padded to 30 s" if card.short_context else "clips padded to 30 s"


def _scores(card: Card) -> list[str]:
    lines = []
    if card.evaluations:
        lines += ["| evaluation | clips | WER | WER, orthographic | CER |", "|---|---|---|---|---|"]
        lines += [_row(summary) for summary in card.evaluations]
        lines += ["", f"WER with 95 % bootstrap intervals; normaliser: {card.normaliser}.", ""]
    if failed := card.training.get("failed_evaluations"):
        steps = ", ".join(str(one["step"]) for one in failed)
        lines += [f"Evaluations that failed, at steps {steps}, the last of them: {failed[-1]['error']}", ""]
    if lost := card.training.get("retention"):
        before, after = lost["wer_before"], lost["wer_after"]
        lines += [f"Retention, WER on other speech: {before:.1%} before, {after:.1%} after: {lost['loss']:+.1%}.", ""]
    return lines


def _row(summary: JsonObject) -> str:
    cells = [str(summary["label"]), str(summary["utterances"])]
    for key in ("wer", "wer_ortho", "cer"):
        score = summary[key]
        cells.append(f"{score['rate']:.1%} ({score['low']:.1%} to {score['high']:.1%})")
    return f"| {' | '.join(cells)} |"
