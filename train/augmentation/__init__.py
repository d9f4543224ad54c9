"""The same clip, a little different in each epoch."""
