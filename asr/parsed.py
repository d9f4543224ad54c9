"""Types of what parsers return: nothing is known of the values until somebody has looked at them."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]
"""An object as JSON, YAML or a table's row has it."""
