"""Fine-tunes Whisper and CTC models on Ray and serves them: as a command, and as a library.

``transcribe``, ``load_engine``, ``fit``, ``evaluate`` and ``running`` are imported when they are first used: with them
come torch, transformers and Ray.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING

from whisperfleet import own_packages

if TYPE_CHECKING:
    from whisperfleet.library import evaluate, fit, load_engine, running, transcribe

__all__ = ["__version__", "evaluate", "fit", "load_engine", "running", "transcribe"]

own_packages.first()


if TYPE_CHECKING:
    __version__: str
else:  # not for type checkers, for which a module with this function has every name

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return metadata.version("whisperfleet")
        if name in __all__:
            return getattr(import_module("whisperfleet.library"), name)
        raise AttributeError(f"module 'whisperfleet' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
