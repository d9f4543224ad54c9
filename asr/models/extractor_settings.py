"""The numbers of a checkpoint's feature extractor, looked at before transformers makes its filters of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from asr.printable import printable

_PROCESSOR, _EXTRACTORS = "processor_config.json", ("feature_extractor", "audio_processor")
_FILES = ("preprocessor_config.json", _PROCESSOR)  # that transformers reads an extractor's settings from
_BANDS, _SAMPLES = 1024, 16_384  # at most: filters of so many are 134 MB. The largest published: 160 bands, 512 samples
_MOST = {
    **dict.fromkeys(("feature_size", "num_mel_bins", "n_mels"), _BANDS),
    **dict.fromkeys(("n_fft", "fft_length", "win_length", "hop_length", "frame_length"), _SAMPLES),
    "chunk_length": 3600,
}
_MOST_OF_OTHERS = 10**7  # such as samples of a window


def require_sane(folder: Path) -> None:
    """Raise ValueError where a number in the settings is far from any that was published, or a size is below 1.

    A missing file is left to transformers. Raises OSError or ValueError for one that cannot be read.
    """
    for path in (folder / name for name in _FILES):
        if not path.is_file():
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except RecursionError:
            raise ValueError(f"{path.name} cannot be read: it is nested too deeply") from None
        if path.name == _PROCESSOR and isinstance(found, dict):  # the others are no extractor's
            found = [found.get(key) for key in _EXTRACTORS]
        for name, value in _settings(found):
            if not _is_sane(name, value):
                raise ValueError(f"{path.name}: its {printable(name, 40)} is {printable(str(value), 20)}")


def _settings(tree: object) -> Iterator[tuple[str, object]]:
    """Yield the settings of a parsed file by name, at whatever depth; each number of a list by the list's name."""
    waiting: list[tuple[str, object]] = [("", tree)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(name, one) for one in value]
        else:
            yield name, value


def _is_sane(name: str, value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _MOST:
        return value is None or (is_number and 1 <= value <= _MOST[name])  # type: ignore[operator]
    return not is_number or abs(value) <= _MOST_OF_OTHERS  # type: ignore[arg-type]
