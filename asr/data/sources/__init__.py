"""Sources of labelled speech: every format read to the same rows, lazily, from a local disk or an address."""

from asr.data.sources.config import SourceConfig
from asr.data.sources.reader import is_stream, rows

__all__ = ["SourceConfig", "is_stream", "rows"]
