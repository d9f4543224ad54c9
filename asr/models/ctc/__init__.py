"""The CTC family: networks that say of every position which symbol is spoken there, or none."""
