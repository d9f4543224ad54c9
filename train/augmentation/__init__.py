"""Augmentation: each epoch gets a slightly different version of the same clip."""
