"""audioml: the MLOps platform for audio. Recordings in, served and monitored models out."""

__version__ = "0.1.0"
