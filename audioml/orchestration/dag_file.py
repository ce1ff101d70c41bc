"""The text of a workspace's DAG file, which `audioml init` writes."""

DAG_FILE_PATH = "dags/audioml_dags.py"
DAG_FILE = '''\
"""The workspace's Airflow DAG: params.yaml names it, audioml.pipeline.graph says what it runs."""

from audioml.orchestration.airflow import build_dags

globals().update(build_dags(dag_file=__file__))
'''
