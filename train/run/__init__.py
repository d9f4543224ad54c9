"""A run: its folder and checkpoints, its attempts, how well it does, what it leaves behind."""
