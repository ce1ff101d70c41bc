#!/bin/bash
# Run by the PostgreSQL image when its volume is empty: a role and a database of its own for Airflow and for MLflow.
set -eu
make_database() {
    psql --quiet -v ON_ERROR_STOP=1 -v name="$1" -v password="$2" -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
SQL
}
make_database airflow "$AIRFLOW_DB_PASSWORD"
make_database mlflow "$MLFLOW_DB_PASSWORD"
