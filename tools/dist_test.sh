#!/usr/bin/env bash
# Evaluates on several GPUs of one or several machines: docs/distributed.md.
set -euo pipefail
if (($# < 3)); then
    cat >&2 <<USAGE
usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
GPUS is the number of processes on this machine. Several machines: the same command on each, with
NNODES (how many), NODE_RANK (0, 1, ...) and MASTER_ADDR (the first one's address) in the
environment. PORT is 29500 by default.
USAGE
    exit 2
fi
config=$1 checkpoint=$2 gpus=$3
shift 3
torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    --nproc_per_node="$gpus" "$(dirname "$0")/test.py" "$config" "$checkpoint" \
    --launcher pytorch "$@"
