#!/usr/bin/env bash
# Cloud TPU VMs from the queue, and train.py on all of their hosts. Run it from the repository, on your own machine.
#
#   launch/tpu_vm.sh create    asks for the slice (or slices) and returns; `status` tells when it is ACTIVE
#   launch/tpu_vm.sh setup     code, Python and packages onto all hosts; mounts the shared file system
#   launch/tpu_vm.sh start     train.py on all hosts, in the background; also to resume; flags of train.py may follow
#   launch/tpu_vm.sh logs      follows the first host
#   launch/tpu_vm.sh stop      SIGTERM: a checkpoint, then the end
#   launch/tpu_vm.sh status    of the request
#   launch/tpu_vm.sh delete    gives the slice back
#
# Every value can be set in the environment: NAME=mine ACCELERATOR=v6e-32 launch/tpu_vm.sh create
set -eu
NAME=${NAME:-molmo}
ZONE=${ZONE:-us-east5-b}
ACCELERATOR=${ACCELERATOR:-v6e-64}       # type and size of a slice
RUNTIME=${RUNTIME:-v2-alpha-tpuv6e}      # software of the hosts, goes with the type
SLICES=${SLICES:-1}
SPOT=${SPOT:-no}                         # yes: cheaper, can be taken away
NFS=${NFS:-}                             # 10.0.0.2:/share, mounted at SHARE; empty: mount something there yourself
SHARE=${SHARE:-/mnt/molmo}
CONFIG=${CONFIG:-configs/image.py:size=8b}
DATA=${DATA:-$SHARE/data}                # train.jsonl, val.jsonl, tokenizer.json
WORKDIR=${WORKDIR:-$SHARE/runs/$NAME}
FLAGS=${FLAGS:-}                         # more flags of train.py, with blanks between them; or give them after `start`

[[ $NAME =~ ^[a-z][-a-z0-9]*$ ]] || { echo "error: NAME=$NAME: small letters, digits and hyphens, a letter first" >&2; exit 2; }
[[ $SLICES =~ ^[0-9]{1,4}$ ]] || { echo "error: SLICES=$SLICES is not a number" >&2; exit 2; }

# --batch-size: all hosts at the same time, however many; the default is 64
everywhere() {
  gcloud compute tpus queued-resources ssh "$NAME" --zone="$ZONE" --node=all --worker=all --batch-size=4096 \
    --command="$1"
}

case ${1:-} in
create)
  nodes=(--node-id="$NAME")
  [ "$SLICES" -gt 1 ] && nodes=(--node-count="$SLICES" --node-prefix="$NAME")
  [ "$SPOT" = yes ] && nodes+=(--spot)
  gcloud compute tpus queued-resources create "$NAME" --zone="$ZONE" --accelerator-type="$ACCELERATOR" \
    --runtime-version="$RUNTIME" "${nodes[@]}"
  ;;
setup)
  archive=$(mktemp -d)/molmo.tar.gz
  git archive --format=tar.gz --output="$archive" HEAD
  gcloud compute tpus queued-resources scp "$archive" "$NAME:" --zone="$ZONE" --node=all --worker=all
  # shellcheck disable=SC2016   # the hosts expand it
  everywhere "$(printf 'nfs=%q share=%q' "$NFS" "$SHARE")"'
    set -e; mkdir -p molmo; tar -xzf molmo.tar.gz -C molmo
    pip install --user --quiet uv
    [ -d venv ] || ~/.local/bin/uv venv --python 3.12 venv
    ~/.local/bin/uv pip install --python venv --quiet -r molmo/requirements-tpu.txt
    if [ -n "$nfs" ] && ! mountpoint -q -- "$share"; then
      sudo apt-get install -y -q nfs-common; sudo mkdir -p -- "$share"; sudo mount -t nfs -- "$nfs" "$share"
    fi'
  ;;
start)
  shift
  flags=("--config=$CONFIG" "--workdir=$WORKDIR" "--config.data.train=$DATA/train.jsonl"
    "--config.data.validation=$DATA/val.jsonl" "--config.data.tokenizer=$DATA/tokenizer.json")
  [ "$SLICES" -gt 1 ] && flags+=("--config.mesh.data=$SLICES")   # only the data axis runs between slices
  read -r -d '' -a more <<< "$FLAGS" || true   # words, not patterns or commands
  flags+=(${more[@]+"${more[@]}"} "$@" --distributed=auto)   # an empty array is no error in old shells either
  everywhere "cd molmo; PYTHON=~/venv/bin/python nohup launch/run.sh$(printf ' %q' "${flags[@]}") \
    >> ~/molmo.log 2>&1 < /dev/null & echo \$! > ~/molmo.pid"
  ;;
logs)
  gcloud compute tpus queued-resources ssh "$NAME" --zone="$ZONE" --node=0 --worker=0 \
    --command='tail -n 200 -F molmo.log'
  ;;
stop)
  # shellcheck disable=SC2016   # the hosts expand it
  everywhere 'kill -TERM "$(cat molmo.pid)"'
  ;;
status)
  gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" --format='value(state.state)'
  ;;
delete)
  gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force
  ;;
*)
  sed -n '2,12s/^# \{0,1\}//p' "$0"
  exit 2
  ;;
esac
