"""What turns text and sound into what a network takes: a checkpoint's tokenizer and features, without its weights.

A module of its own, because tasks that prepare data start without importing any network: that takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError
from transformers import WhisperFeatureExtractor, WhisperTokenizer

from asr.audio.features import LogMel
from asr.errors import UserError, one_line
from asr.models.checkpoint import Checkpoint


def load_processor(checkpoint: Checkpoint) -> tuple[WhisperTokenizer, LogMel]:
    """Load what turns text and sound into what the network takes, without the weights.

    Raises UserError where a file is missing or damaged.
    """
    # Without these transformers goes on, with an empty vocabulary, or stops each transcript after 20 tokens.
    for names in (("tokenizer.json", "vocab.json"), ("generation_config.json",)):
        if not any((checkpoint.folder / name).is_file() for name in names):
            raise UserError(
                f"checkpoint '{checkpoint.name}' has no {names[0]}", f"copy it to {checkpoint.folder} from its base"
            )
    with loading(checkpoint):
        extractor = WhisperFeatureExtractor.from_pretrained(checkpoint.folder)
        return WhisperTokenizer.from_pretrained(checkpoint.folder), LogMel(extractor)


@contextmanager
def loading(checkpoint: Checkpoint) -> Iterator[None]:
    """Raise UserError where what is read in the block is missing, damaged or no Whisper."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = one_line(error)
        raise UserError(
            f"checkpoint '{checkpoint.name}' cannot be loaded as Whisper: {reason}", str(checkpoint.folder)
        ) from error
