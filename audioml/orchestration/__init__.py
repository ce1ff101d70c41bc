"""Drivers of the pipeline: DVC, Airflow, and the embedded stack."""
