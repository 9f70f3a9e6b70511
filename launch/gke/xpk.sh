#!/usr/bin/env bash
# The same JobSet through XPK, for clusters that `xpk cluster create` made.
#
#   launch/gke/xpk.sh [more flags of xpk workload create, such as --dry-run]
#
# Every value can be set in the environment: NAME=mine TPU=v6e-32 launch/gke/xpk.sh
set -eu
NAME=${NAME:-molmo}
PROJECT=${PROJECT:-PROJECT}
ZONE=${ZONE:-us-east5-b}
CLUSTER=${CLUSTER:-molmo}
TPU=${TPU:-v6e-64}
SLICES=${SLICES:-1}
IMAGE=${IMAGE:-us-docker.pkg.dev/PROJECT/REPOSITORY/molmo:latest}   # launch/Dockerfile
STORAGE=${STORAGE:-molmo}                  # made known by `xpk storage attach`, mounted at SHARE
SHARE=${SHARE:-/share}
CONFIG=${CONFIG:-configs/image.py:size=8b}
DATA=${DATA:-$SHARE/data}                  # train.jsonl, val.jsonl, tokenizer.json
WORKDIR=${WORKDIR:-$SHARE/runs/$NAME}

# XPK gives the command to a shell, for which printf quotes it.
flags=("--config=$CONFIG" "--workdir=$WORKDIR" "--config.data.train=$DATA/train.jsonl"
  "--config.data.validation=$DATA/val.jsonl" "--config.data.tokenizer=$DATA/tokenizer.json"
  "--config.mesh.data=$SLICES" --distributed=auto)
command="exec launch/run.sh$(printf ' %q' "${flags[@]}")"

# exec: XPK's shell hands SIGTERM to the command it started. 1: a lost peer. 75: stopped by SIGTERM after a checkpoint.
xpk workload create --project="$PROJECT" --zone="$ZONE" --cluster="$CLUSTER" --workload="$NAME" \
  --tpu-type="$TPU" --num-slices="$SLICES" --docker-image="$IMAGE" --storage="$STORAGE" \
  --max-restarts=50 --restart-on-exit-codes=1,75 --termination-grace-period-seconds=600 \
  --command="$command" "$@"
