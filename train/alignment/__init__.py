"""Forced alignment of labelled speech: manifests with the times of words, and long recordings cut for training."""
