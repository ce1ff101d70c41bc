"""The workspace's Airflow DAGs: params.yaml names them, audioml.pipeline.graph says what they run."""

from audioml.orchestration.airflow import build_dags

globals().update(build_dags(dag_file=__file__))
