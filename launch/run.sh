#!/usr/bin/env bash
# One process of a run: train.py, with an exit status that schedulers can act on.
#
#   launch/run.sh --workdir=DIR [flags of train.py]
#
#   0    the run reached its last step
#   75   it was stopped by SIGTERM, after a checkpoint: the same command resumes there
#   else it failed; its last lines say why
#
# SIGTERM to this script is handed on to train.py.
set -u
PYTHON=${PYTHON:-python}

workdir=
for flag in "$@"; do
  case $flag in --workdir=*) workdir=${flag#--workdir=} ;; esac
done
if [ -z "$workdir" ]; then
  echo 'error: launch/run.sh needs --workdir=DIR, a folder that all hosts share' >&2
  exit 2
fi

"$PYTHON" "$(dirname "$0")/../train.py" "$@" &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM
while kill -0 "$child" 2>/dev/null; do wait "$child"; done   # a signal ends `wait`, not the child
wait "$child"
status=$?
case $status in
  130 | 143) exit 75 ;;   # how train.py ends after Ctrl-C and SIGTERM
  *) exit "$status" ;;
esac
