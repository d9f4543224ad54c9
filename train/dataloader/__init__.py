"""Batches on their way to the trainer: Ray Data, tensors, the data loader."""
