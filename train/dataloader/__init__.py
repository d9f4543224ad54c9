"""The data loader: Ray Data makes tensors of micro-batches and hands them to the trainer."""
