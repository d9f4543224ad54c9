"""What training takes, before it is begun: memory, time and cost of every strategy and parallelism."""
