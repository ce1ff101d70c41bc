"""Changes to training data. A plug-in changes audio features of a batch."""
