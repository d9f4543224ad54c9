"""Sweeps: many runs of one configuration that differ in some of its keys, and which of them did best."""
