#!/usr/bin/env bash
# Fills in a JobSet of this folder and gives it to the cluster that kubectl is connected to.
#
#   launch/gke/submit.sh tpu           the run, or the same run again after its end
#   launch/gke/submit.sh gpu
#   launch/gke/submit.sh tpu --print   only shows what would be applied
#
# Every value can be set in the environment: NAME=mine NODES=8 launch/gke/submit.sh gpu
set -eu
kind=${1:-tpu}
export NAME=${NAME:-molmo}
export IMAGE=${IMAGE:-us-docker.pkg.dev/PROJECT/REPOSITORY/molmo:latest}   # launch/Dockerfile
export CLAIM=${CLAIM:-molmo}                   # a ReadWriteMany PersistentVolumeClaim, mounted at /share
export CONFIG=${CONFIG:-configs/image.py:size=8b}
export DATA=${DATA:-/share/data}               # train.jsonl, val.jsonl, tokenizer.json
export WORKDIR=${WORKDIR:-/share/runs/$NAME}
export MAX_RESTARTS=${MAX_RESTARTS:-20}        # after failures; interruptions are not counted
export GRACE=${GRACE:-600}                     # seconds from SIGTERM to SIGKILL: a step and a checkpoint
case $kind in
tpu)
  export ACCELERATOR=${ACCELERATOR:-tpu-v6e-slice}
  export TOPOLOGY=${TOPOLOGY:-8x8}
  export CHIPS=${CHIPS:-4}                     # of a node
  export NODES=${NODES:-16}                    # of a slice: chips of the topology / CHIPS
  export SLICES=${SLICES:-1}
  ;;
gpu)
  export ACCELERATOR=${ACCELERATOR:-nvidia-h100-80gb}
  export GPUS=${GPUS:-8}                       # of a node
  export NODES=${NODES:-2}
  ;;
*)
  echo "error: $kind is not tpu or gpu" >&2
  exit 2
  ;;
esac

fill='import os, string, sys; print(string.Template(sys.stdin.read()).substitute(os.environ), end="")'
manifest=$(${PYTHON:-python3} -c "$fill" < "$(dirname "$0")/jobset-$kind.yaml")
if [ "${2:-}" = --print ]; then
  echo "$manifest"
else
  # one that ended, or still runs: waits for the checkpoint of its pods
  kubectl delete jobset "$NAME" --ignore-not-found --cascade=foreground
  echo "$manifest" | kubectl apply -f -
fi
