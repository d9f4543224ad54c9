"""Whisper in CTranslate2: quantised, and several times as fast on a CPU.

Legend: B rows, M mel bins, T frames (10 ms each), S encoder positions (20 ms each), D width.
"""

from __future__ import annotations

import ctypes
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray
from transformers import WhisperFeatureExtractor, WhisperTokenizer

from asr.audio.features import WINDOW_FRAMES, Context, LogMel
from asr.errors import UserError
from asr.io import storage
from asr.models.builtin.convert import read_tokenizer
from asr.models.export import MODEL, engine_of_export, exported, read_export
from asr.models.export_formats import Quantization
from asr.models.heard_speech import speech_s
from asr.models.whisper.alignment import AlignmentTarget, words_of
from asr.models.whisper.batch_decode import transcribe_batch
from asr.models.whisper.generation import DecoderPrompt, Hypothesis
from asr.models.whisper.tokens import MAX_TOKENS, TIMESTAMP_S, is_multilingual
from asr.transcript import DecodingRequest, Transcript, Word

if TYPE_CHECKING:
    from ctranslate2 import StorageView
    from ctranslate2.models import Whisper, WhisperGenerationResult

_DEFAULTS: dict[str, Quantization] = {"cpu": "int8", "cuda": "float16"}


@dataclass(frozen=True)
class CTranslateModel:
    """A network for ``batch_decode``, with the facts about it. ``replica`` loads the weights once more.

    ``quantization`` is the type of its weights, ``known_languages`` are the codes it has tokens for, ``language`` what
    it was fine-tuned for (None: any); ``short_context`` whether it was trained on clips shorter than 30 s without
    padding, ``speech_s`` how much speech it heard at once. ``nbytes`` is what its weights occupy.
    """

    whisper: Whisper
    replica: Callable[[], Whisper]
    tokenizer: WhisperTokenizer
    features: LogMel
    quantization: Quantization
    known_languages: frozenset[str]
    language: str | None = None
    short_context: bool = False
    speech_s: float | None = None
    nbytes: int = 0

    @classmethod
    def load(
        cls, name: str, device: str = "cpu", threads: int = 0, quantization: Quantization | None = None
    ) -> CTranslateModel:
        """Load an export, or whatever else ``name`` names after exporting it into the cache.

        ``threads`` 0 takes CTranslate2's own number; without ``quantization``, int8 on a CPU and float16 on a GPU.
        Raises UserError where the model is missing, damaged or no Whisper, or the device lacks the quantization.
        """
        quantization = quantization or _DEFAULTS[device]
        _check(device, quantization)
        folder = Path(storage.local_path(name)).expanduser() if engine_of_export(name) else exported(name, quantization)
        record = read_export(folder)
        tokenizer = read_tokenizer(folder / "tokenizer.json")
        known_languages = _known_languages(folder, tokenizer)
        replica = partial(_open, folder, device, threads, quantization)
        whisper = replica()
        return cls(
            whisper=whisper,
            replica=replica,
            tokenizer=tokenizer,
            features=LogMel(WhisperFeatureExtractor(feature_size=whisper.n_mels).mel_filters),
            quantization=quantization,
            known_languages=known_languages,
            language=record.card.language if record and record.card else None,
            short_context=bool(record and record.card and record.card.short_context),
            speech_s=speech_s(record.card.config, record.card.data) if record and record.card else None,
            nbytes=(folder / MODEL["ctranslate2"]).stat().st_size,  # in memory as in the file
        )

    def transcribe(
        self, requests: Sequence[DecodingRequest], context: Context, fallback: bool = False
    ) -> list[Transcript]:
        """Transcribe clips of any mix, in their order, as torch does up to what quantisation changes."""
        return transcribe_batch(self, requests, context, fallback=fallback)

    @property
    def device_type(self) -> str:
        """``cpu`` or ``cuda``."""
        return str(self.whisper.device)

    @property
    def joins_contexts(self) -> bool:
        """CTranslate2's decoder sees all encoder states that it is given, padding too."""
        return False

    def encode(self, features: Sequence[NDArray[np.float32]], clips: Sequence[int]) -> StorageView:
        """Run the encoder; its states [B, S, D] come back to the CPU, where their rows can be taken.

        A CPU takes 30 s of sound at a time: its caches hold that, and of eight windows together each takes 1.35 times
        as long as alone.
        """
        from ctranslate2 import StorageView

        (features_BMT,) = features
        size = len(features_BMT)
        if self.whisper.device == "cpu":
            size = max(WINDOW_FRAMES // features_BMT.shape[2], 1)
        parts = [
            self.whisper.encode(StorageView.from_array(np.ascontiguousarray(features_BMT[at : at + size])), to_cpu=True)
            for at in range(0, len(features_BMT), size)
        ]
        return parts[0] if len(parts) == 1 else StorageView.from_array(np.concatenate([np.asarray(p) for p in parts]))

    def languages(self, encoded: StorageView, rows: Sequence[int]) -> list[str]:
        """Return the likeliest language of each row, as a code."""
        ranked = self.whisper.detect_language(_taken(encoded, rows))
        return [str(best[0][0]).strip("<|>") for best in ranked]

    def generate(self, encoded: StorageView, rows: Sequence[int], starts: Sequence[DecoderPrompt]) -> list[Hypothesis]:
        """Decode each row from its own start until its own end, or where the decoder has no more positions.

        CTranslate2 wants one position of start-of-transcript in a batch and one set of options.
        """
        groups: dict[tuple[int, bool, float, str], list[int]] = defaultdict(list)
        for place, start in enumerate(starts):
            groups[start.previous, start.timestamps, start.temperature, start.seed].append(place)
        found: dict[int, Hypothesis] = {}
        for places in groups.values():
            group = [starts[place] for place in places]
            states = _taken(encoded, [rows[place] for place in places])
            hypotheses = (
                self._draw(states, group) if group[0].temperature > 0 else _generate(self.whisper, states, group)
            )
            found.update(zip(places, hypotheses, strict=True))
        return [found[place] for place in range(len(starts))]

    def _draw(self, encoded: StorageView, starts: Sequence[DecoderPrompt]) -> list[Hypothesis]:
        """Decode rows of one seed, that is of one clip, at their temperature.

        The generator belongs to the thread that decodes and takes its seed at its first use (CTranslate2 4.8): only a
        replica that has not drawn yet draws the same again. Loading it takes about as long as decoding a clip.
        """
        from ctranslate2 import set_random_seed

        set_random_seed(zlib.crc32(starts[0].seed.encode()) >> 1)
        heat = {"sampling_topk": 0, "sampling_temperature": starts[0].temperature}
        return [
            _generate(self.replica(), _taken(encoded, [row]), [start], **heat)[0] for row, start in enumerate(starts)
        ]

    def align(
        self, encoded: StorageView, rows: Sequence[int], lines: Sequence[AlignmentTarget]
    ) -> list[tuple[Word, ...]]:
        """Return the words of each row's line with their times.

        One by one: together, CTranslate2 normalises a row's attention over the padding behind it too.
        """
        words = []
        for row, line in zip(rows, lines, strict=True):
            positions = max(int(line.duration_s / TIMESTAMP_S + 1e-6), 1)  # rounded down: no word beyond the clip
            [aligned] = self.whisper.align(
                _taken(encoded, [row]), list(line.prompt[:-1]), [list(line.tokens)], 2 * positions
            )
            path = np.array(aligned.alignments)  # [steps, 2]: token and position, neither of which goes back
            begins = np.flatnonzero(np.diff(path[:, 0], prepend=-1))
            times_s = (path[begins, 1] * TIMESTAMP_S).tolist()
            words.append(words_of(self.tokenizer, line.tokens, line.language, times_s, aligned.text_token_probs))
        return words


def _taken(encoded: StorageView, rows: Sequence[int]) -> StorageView:
    """Return rows of encoder states, which are themselves where all are wanted."""
    if list(rows) == list(range(encoded.shape[0])):
        return encoded
    from ctranslate2 import StorageView

    return StorageView.from_array(np.asarray(encoded)[list(rows)])


def _generate(
    whisper: Whisper, encoded: StorageView, starts: Sequence[DecoderPrompt], **options: float
) -> list[Hypothesis]:
    results = whisper.generate(
        encoded,
        [list(start.prompt) for start in starts],
        beam_size=1,
        max_length=_max_length(len(starts[0].prompt)),  # starts of a group are equally long
        length_penalty=0,  # the scores are divided by length ** penalty, the end not counted: this leaves the sum
        return_scores=True,
        return_no_speech_prob=True,
        **options,
    )
    return [_found(result) for result in results]


def _max_length(prompt: int) -> int:
    """Return what lets a row use all positions behind its prompt.

    CTranslate2 ends it after the lesser of half of this and what this leaves behind the prompt but for its last token,
    as Whisper halves its positions between the text before and the text to come.
    """
    room = MAX_TOKENS - prompt
    return max(2 * room, room + prompt - 1)


def _found(result: WhisperGenerationResult) -> Hypothesis:
    tokens = tuple(int(token) for token in result.sequences_ids[0])
    return Hypothesis(tokens, float(result.scores[0]) / (len(tokens) + 1), float(result.no_speech_prob))


@cache
def loads(device: str) -> bool:
    """Return whether CTranslate2 runs on a device, and prepare a GPU for it.

    On a GPU it opens cuBLAS 12 when it first computes, and a torch for CUDA 13 brings another one: of the package
    nvidia-cublas-cu12 it is opened here, so that it is found then.
    """
    try:
        import ctranslate2
    except ImportError:
        return False
    if device == "cpu":
        return True
    if not ctranslate2.get_cuda_device_count():
        return False
    spec = find_spec("nvidia") and find_spec("nvidia.cublas")
    folders = [Path(folder) / "lib" for folder in (spec.submodule_search_locations or ())] if spec else []
    for library in ("libcublasLt.so.12", "libcublas.so.12"):
        found = [str(folder / library) for folder in folders if (folder / library).is_file()]
        try:
            ctypes.CDLL((found or [library])[0], mode=ctypes.RTLD_GLOBAL)
        except OSError:
            return False
    return True


def _check(device: str, quantization: Quantization) -> None:
    try:
        import ctranslate2
    except ImportError:
        raise UserError("the ctranslate2 engine is not installed", "pip install ctranslate2") from None
    if device == "cuda" and not loads(device):
        raise UserError("CTranslate2 finds no cuBLAS 12", "pip install 'whisperfleet[gpu]', or engine=torch")
    if quantization not in ctranslate2.get_supported_compute_types(device):
        able = sorted(set(get_args(Quantization)) & ctranslate2.get_supported_compute_types(device))
        raise UserError(f"quantization={quantization} is nothing for this {device}", f"choose {' or '.join(able)}")


def _open(folder: Path, device: str, threads: int, quantization: Quantization) -> Whisper:
    from ctranslate2.models import Whisper

    try:
        return Whisper(
            str(folder),
            device,
            compute_type=quantization,
            inter_threads=1,
            intra_threads=threads,
            max_queued_batches=-1,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{folder / MODEL['ctranslate2']}: CTranslate2 cannot load it: {error}") from None


def _known_languages(folder: Path, tokenizer: WhisperTokenizer) -> frozenset[str]:
    path = folder / "config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not is_multilingual(tokenizer):
            return frozenset({"en"})
        return frozenset(str(tokenizer.convert_ids_to_tokens(i)).strip("<|>") for i in settings["lang_ids"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no languages can be read from it: {error!r}", "export the checkpoint again") from None
