"""Parses the transcript of a row, whatever file format it comes from."""

from __future__ import annotations

import math

import numpy as np

from asr.errors import DataError

_SHOWN = 60


def transcript(value: object) -> str:
    """Return what a cell says was spoken, "" where it is empty. Raises DataError not_text for what is none.

    Text is taken as it is written, words such as ``nan``, ``NA`` or ``true`` too: in a table nothing tells them from
    what they look like. A whole number is text, because 1984 may be what was said. A float is not, not even a round
    one: pandas makes 1984.0 of a column of whole numbers with gaps, and NaN of the gaps. Truth values, lists, objects
    and bytes are not, either.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if type(value) is int or isinstance(value, np.integer):  # a truth value is an int to Python
        return str(value)
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]} ..."
    raise DataError("not_text", f"the transcript is {shown}, a {type(value).__name__}")


def told(value: object) -> object:
    """Return a cell of names or codes, None where it is NaN or infinite: so pandas writes that there is nothing."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
