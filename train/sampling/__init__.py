"""Sampling: the order of training as a pure function of data, seed and epoch."""
