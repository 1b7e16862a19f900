#!/usr/bin/env bash
# MLflow for a team, started by compose.yaml: PostgreSQL, S3, and a password for everyone. Passwords come from the
# environment: PostgreSQL's library reads PGPASSWORD, MLflow MLFLOW_AUTH_ADMIN_PASSWORD, boto3 the AWS_ variables.
set -euo pipefail

: "${PGPASSWORD:?}" "${MLFLOW_AUTH_ADMIN_USERNAME:?}" "${MLFLOW_AUTH_ADMIN_PASSWORD:?}"
: "${MLFLOW_FLASK_SERVER_SECRET_KEY:?}" "${MLFLOW_SERVER_ALLOWED_HOSTS:?}" "${MLFLOW_ARTIFACTS:?}"

export MLFLOW_AUTH_CONFIG_PATH=/srv/mlflow/auth.ini
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false
exec mlflow server \
    --app-name basic-auth \
    --host 0.0.0.0 --port 5000 \
    --allowed-hosts "$MLFLOW_SERVER_ALLOWED_HOSTS" \
    --backend-store-uri postgresql+psycopg2://mlflow@postgres:5432/mlflow \
    --artifacts-destination "$MLFLOW_ARTIFACTS"
