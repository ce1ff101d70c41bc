"""One file per step; the file name is the step's name."""
