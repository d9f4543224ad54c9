"""Tracking: progress and figures of a run, for people, while it goes on and afterwards."""
