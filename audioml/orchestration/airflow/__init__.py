"""The Airflow driver: one DAG a workspace, built from the graph of steps.

The only package that imports airflow; it imports no ML library.
"""

from audioml.orchestration.airflow.dags import build_dags

__all__ = ["build_dags"]
