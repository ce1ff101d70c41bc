"""Runs, packages, versions and aliases; alone imports mlflow."""

import os

SETTINGS = {
    # What is recorded about a workspace stays on its own server.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # The address of a server that ends with the command is no use to anyone.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # A uv project around the workspace is no part of its models.
    "MLFLOW_UV_AUTO_DETECT": "false",
}
"""MLflow reads them when it is imported. Whoever sets one keeps it."""

for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)
