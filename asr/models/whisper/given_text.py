"""Times of given words with Whisper: its cross attention while it reads them instead of what it would decode."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from asr.audio.features import context_frames, pad
from asr.data.segments import LabelledSegment
from asr.errors import DataError
from asr.models.alignment import AlignmentRequest
from asr.models.family import SpeechModel
from asr.models.whisper.alignment import AlignmentTarget
from asr.models.whisper.batch_decode import duration_s
from asr.models.whisper.tokens import prompt_ids
from asr.models.whisper.torch_backend import TorchNetwork
from asr.transcript import DecodingRequest, Word

_AT_ONCE = 16


def align_clips(model: SpeechModel, requests: Sequence[AlignmentRequest]) -> list[tuple[Word, ...] | DataError]:
    """Return the words of clips with their times; see ``asr.models.family.Family.align``.

    Errors are those of ``WhisperProcessor.label``.
    """
    results: dict[int, tuple[Word, ...] | DataError] = {}
    lines: dict[int, AlignmentTarget] = {}
    groups: dict[int, list[int]] = defaultdict(list)
    for number, request in enumerate(requests):
        try:
            lines[number] = _line(model, request)
        except DataError as error:
            results[number] = error
            continue
        groups[context_frames(request.features.shape[1], model.context)].append(number)
    network = TorchNetwork(model)
    for frames, numbers in groups.items():
        for first in range(0, len(numbers), _AT_ONCE):
            batch = numbers[first : first + _AT_ONCE]
            encoded = network.encode([pad([requests[number].features for number in batch], frames)], batch)
            words = network.align(encoded, range(len(batch)), [lines[number] for number in batch])
            results.update(zip(batch, words, strict=True))
    return [results[number] for number in range(len(requests))]


def _line(model: SpeechModel, request: AlignmentRequest) -> AlignmentTarget:
    language = request.language or model.language
    prompt = prompt_ids(model.tokenizer, language)
    label = model.processor.label([LabelledSegment(0.0, 0.0, request.text)], language, "transcribe")
    return AlignmentTarget(
        tuple(prompt), tuple(label[len(prompt) : -1]), duration_s(DecodingRequest(request.features)), language
    )
