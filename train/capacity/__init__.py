"""Resources of training, estimated before it begins: memory, time and cost of every strategy and parallelism."""
