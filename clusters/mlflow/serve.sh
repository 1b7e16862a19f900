#!/usr/bin/env bash
# MLflow for one user: SQLite, artifacts beside it, and loopback only, so that it needs no password. From another
# machine: ssh -N -L 5000:127.0.0.1:5000 HOST. A second start where it runs already does nothing.
set -euo pipefail

home=${RAYDISTILL_MLFLOW_HOME:-$HOME/raydistill}
port=${RAYDISTILL_MLFLOW_PORT:-5000}

if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "something listens on 127.0.0.1:$port already" >&2
    exit 0
fi
mkdir -p "$home"
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false
# Other names than loopback's are refused, so that no web page can reach the server through a rebound name.
exec mlflow server \
    --host 127.0.0.1 --port "$port" --workers 1 \
    --allowed-hosts "127.0.0.1,127.0.0.1:$port,localhost,localhost:$port" \
    --backend-store-uri "sqlite:///$home/mlflow.db" \
    --artifacts-destination "$home/mlartifacts"
