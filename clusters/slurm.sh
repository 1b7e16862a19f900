#!/usr/bin/env bash
# A sweep on Slurm: sbatch clusters/slurm.sh, typed in the root of a clone on a file system that all nodes share.
# Arguments go to the sweep: sbatch clusters/slurm.sh --method seed --trials 64
#SBATCH --job-name=raydistill
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -euo pipefail

cd "$SLURM_SUBMIT_DIR"
# shellcheck source=/dev/null
. .venv/bin/activate

# One token for this user, in the home directory that all nodes share, and readable by nobody else.
export RAY_AUTH_MODE=token
(umask 077 && ray get-auth-token --generate > /dev/null)
chmod go= ~/.ray/auth_token 2> /dev/null || true # one that was there before

# This script runs on the first node, which is the head. HEAD_IP says which of its addresses the others reach.
head=${HEAD_IP:-$(hostname -I | awk '{print $1}')}
port=$((20000 + SLURM_JOB_ID % 20000))
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600 # nodes start one after the other; Ray's own 30 s are short

# The name is the job's, so that a requeued job goes on where it was.
sweep=(--method dogo --name "slurm-$SLURM_JOB_ID" --resume-or-start --gpu --packs 8 --max-hours 23 "$@")

# Only the driver is told the address; without it a sweep starts a Ray of its own.
srun ray symmetric-run \
    --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" \
    --dashboard-host 127.0.0.1 --disable-usage-stats \
    -- env RAY_ADDRESS="$head:$port" python sweep.py "${sweep[@]}"
