"""Speech on its way to training: looked at, prepared, admitted and held."""
