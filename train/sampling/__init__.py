"""The order of training: a pure function of data, seed and epoch."""
