"""A training run: its start, workers, attempts after failures, and its artifact."""
