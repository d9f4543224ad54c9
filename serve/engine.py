"""The engine that a configuration asks for."""

from __future__ import annotations

from asr.inference import engine
from asr.inference.engine import Engine, ModelInfo
from serve.config import ServeConfig

__all__ = ["Engine", "ModelInfo", "load_engine"]


def load_engine(config: ServeConfig) -> Engine:
    """Load the configured model. Raises UserError where it is missing, damaged or no Whisper."""
    device = "cuda" if config.gpu else "cpu"
    return engine.load_engine(config.model, config.public_name, config.engine, device, config.threads)
