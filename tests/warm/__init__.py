"""Processes that begin warm: with torch and the like imported."""
