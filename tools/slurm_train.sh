#!/usr/bin/env bash
# Trains as a job of a Slurm cluster: docs/distributed.md.
set -euo pipefail
if (($# < 3)); then
    cat >&2 <<USAGE
usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
In the environment: GPUS in all (8), GPUS_PER_NODE (8, or GPUS if fewer), CPUS_PER_TASK (5), and
SRUN_ARGS, further options of srun.
USAGE
    exit 2
fi
partition=$1 job_name=$2 config=$3
shift 3
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
read -ra srun_args <<<"${SRUN_ARGS:-}"
srun --partition="$partition" --job-name="$job_name" --ntasks="$gpus" \
    --ntasks-per-node="$gpus_per_node" --gres="gpu:$gpus_per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
    ${srun_args[@]+"${srun_args[@]}"} \
    python -u "$(dirname "$0")/train.py" "$config" --launcher slurm "$@"
