"""What parsers return: a mapping of whose values nothing is known until somebody has looked at them."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]
"""An object as JSON, YAML or a table's row has it."""
