"""Checks that look for faults of a run before it begins."""
