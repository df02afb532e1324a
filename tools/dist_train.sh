#!/usr/bin/env bash
# Trains on several GPUs of one or several machines: docs/distributed.md.
set -euo pipefail
if (($# < 2)); then
    cat >&2 <<USAGE
usage: tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
GPUS is the number of processes on this machine. Several machines: the same command on each, with
NNODES (how many), NODE_RANK (0, 1, ...) and MASTER_ADDR (the first one's address) in the
environment. PORT is 29500 by default.
USAGE
    exit 2
fi
config=$1 gpus=$2
shift 2
torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    --nproc_per_node="$gpus" "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
