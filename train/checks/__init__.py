"""What would spoil a run, looked for before it begins."""
