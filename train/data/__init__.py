"""Speech data for training: inspected, prepared, filtered and stored."""
