"""Job of a batch run: the recordings to transcribe, the options and the output folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from asr.data.manifest import json_object
from asr.errors import DataError, UserError
from asr.inference.known_model import KnownModel, known_model
from asr.inference.model_info import ModelInfo
from asr.inference.pipeline import DecodingOptions, check_abilities, spoken_language
from asr.io import storage
from asr.language import code_or_none
from asr.models.artifact import CARD
from asr.sound import DEFAULT_CHOICE, EACH, SoundChoice
from asr.transcript import Task, plain_keywords, require_plain
from serve.batch.output_folder import Format, Settings
from serve.config import ServeConfig


@dataclass(frozen=True)
class BatchJob:
    """A command line. ``out`` is empty where transcripts are printed, ``language`` None where it is to be detected.
    ``sound`` is the track and channel taken of every file, ``audio_roots`` other folders in which lists may name files.

    Raises UserError, whenever one is made, for a prompt, keywords or combination that no model can do.
    """

    inputs: Sequence[str]
    out: str
    formats: Sequence[Format]
    config: ServeConfig
    language: str | None = None
    task: Task = "transcribe"
    prompt: str = ""
    words: bool = False
    overwrite: bool = False
    sound: SoundChoice = DEFAULT_CHOICE
    audio_roots: Sequence[str] = ()
    keywords: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.words and Format.JSON not in self.formats:
            raise UserError("--words has no place in the formats asked for", "add --format json")
        for option, check in (("--prompt", partial(require_plain, self.prompt)), ("--keywords", self._plain_keywords)):
            try:
                check()
            except DataError as error:
                raise UserError(f"{option} cannot be used: {error.detail}") from None

    def _plain_keywords(self) -> tuple[str, ...]:
        return plain_keywords(self.keywords)

    @property
    def timestamps(self) -> bool:
        """Return whether segments have times. All formats but plain text show them, and they order channels."""
        return set(self.formats) != {Format.TXT} or self.sound.channel == EACH

    def settings(self) -> Settings:
        """Return what decides which words are written. Raises UserError where storage does not answer."""
        return Settings(
            model=self.config.model,
            weights=_weights(self.config.model),
            engine=self.config.engine,
            language=code_or_none(self.language),
            task=self.task,
            prompt=self.prompt,
            timestamps=self.timestamps,
            words=self.words,
            track=self.sound.track,
            channel=self.sound.channel,
            keywords=json.dumps(keywords, ensure_ascii=False) if (keywords := self._plain_keywords()) else "",
        )

    def check(self) -> None:
        """Raise UserError for what the model's files tell already that it cannot do: its weights may take minutes."""
        if model := known_model(self.config.model, self.config.public_name):
            self.options(model)

    def options(self, model: ModelInfo | KnownModel) -> DecodingOptions:
        """Return what each window is asked. Raises UserError where the model cannot do it."""
        asked = DecodingOptions(
            task=self.task,
            prompt=self.prompt.strip(),
            timestamps=self.timestamps,
            words=self.words,
            keywords=self._plain_keywords(),
        )
        check_abilities(asked, model)
        return replace(asked, language=spoken_language(self.language, model))


def _weights(model: str) -> dict[str, str]:
    """Return the digests in the card of an artifact; none for what is no artifact."""
    card = storage.join(model, CARD)
    if storage.kind(card) != "file":
        return {}
    return dict(json_object(storage.read_text(card), card).get("files", {}))
