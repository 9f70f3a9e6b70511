#!/usr/bin/env bash
# Fills in a JobSet of this folder and gives it to the cluster that kubectl is connected to.
#
#   launch/gke/submit.sh tpu             a new run, or one that ended: it resumes
#   launch/gke/submit.sh gpu
#   launch/gke/submit.sh tpu --print     only shows what would be applied
#   launch/gke/submit.sh tpu --replace   also where the JobSet still runs: ends it after a checkpoint
#
# Every value can be set in the environment: NAME=mine NODES=8 launch/gke/submit.sh gpu
set -euo pipefail
usage() {
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
fail() {
  echo "error: $1" >&2
  exit 2
}

kind=${1-} action=${2-}
[ $# -le 2 ] || usage
case $action in '' | --print | --replace) ;; *) usage ;; esac

export NAME=${NAME:-molmo}
export IMAGE=${IMAGE:-us-docker.pkg.dev/PROJECT/REPOSITORY/molmo:latest}    # launch/Dockerfile
export CLAIM=${CLAIM:-molmo}                    # a ReadWriteMany PersistentVolumeClaim, mounted at /share
export CONFIG=${CONFIG:-configs/image.py:size=8b}
export DATA=${DATA:-/share/data}                # train.jsonl, val.jsonl, tokenizer.json
export WORKDIR=${WORKDIR:-/share/runs/$NAME}
export MAX_RESTARTS=${MAX_RESTARTS:-20}         # after failures; interruptions are not counted
export GRACE=${GRACE:-600}                      # seconds from SIGTERM to SIGKILL: a step and a checkpoint
export SHM=${SHM:-32Gi}                         # most that /dev/shm may hold, of the node's memory
case $kind in
tpu)
  export ACCELERATOR=${ACCELERATOR:-tpu-v6e-slice}
  export TOPOLOGY=${TOPOLOGY:-8x8}
  export CHIPS=${CHIPS:-4}                      # of a node
  export NODES=${NODES:-16}                     # of a slice: chips of the topology / CHIPS
  export SLICES=${SLICES:-1}
  numbers="MAX_RESTARTS GRACE CHIPS NODES SLICES"
  ;;
gpu)
  export ACCELERATOR=${ACCELERATOR:-nvidia-h100-80gb}
  export GPUS=${GPUS:-8}                        # of a node
  export NODES=${NODES:-2}
  numbers="MAX_RESTARTS GRACE GPUS NODES"
  ;;
*)
  usage
  ;;
esac
[[ $NAME =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
  fail "NAME=$NAME: up to 40 small letters, digits and hyphens, a letter first"
for name in $numbers; do
  [[ ${!name} =~ ^[0-9]{1,6}$ ]] || fail "$name=${!name} is not a number"
done

# Numbers stand as they are. Every other value with something to fill in becomes a quoted string. In arguments of
# the container Kubernetes reads $(NAME); '$$' is a dollar sign to it.
fill='
import json, os, re, string, sys
values = {k: v if k in sys.argv[1].split() else v.replace("$", "$$") if k in ("CONFIG", "DATA", "WORKDIR") else v
          for k, v in os.environ.items()}
for line in sys.stdin:
  start, value = re.fullmatch(r"(\s*(?:- )?(?:[\w./-]+: )?)(.*)\n", line).groups()
  if "$" in value and not value.startswith("#"):
    filled = string.Template(value).substitute(values)
    value = filled if value[1:] in sys.argv[1].split() else json.dumps(filled)
  print(start + value)
'
manifest=$("${PYTHON:-python3}" -c "$fill" "$numbers" < "$(dirname "$0")/jobset-$kind.yaml")
if [ "$action" = --print ]; then
  printf '%s\n' "$manifest"
  exit
fi
state=$(kubectl get jobset "$NAME" --ignore-not-found --output='jsonpath={.metadata.name}/{.status.terminalState}')
case $state in
'' | / | "$NAME"/Completed | "$NAME"/Failed) ;;
*)
  [ "$action" = --replace ] ||
    fail "JobSet $NAME runs; --replace ends it after a checkpoint, another NAME leaves it alone"
  ;;
esac
if [ "${state:-/}" != / ]; then   # it ended, or is replaced: waits for the checkpoint of its pods
  kubectl delete jobset "$NAME" --ignore-not-found --cascade=foreground
fi
printf '%s\n' "$manifest" | kubectl apply -f -
