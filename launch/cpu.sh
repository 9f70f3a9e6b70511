#!/usr/bin/env bash
# Several processes of train.py on this machine's CPU, as a cluster would run them.
#
#   launch/cpu.sh --workdir=runs/cpu [flags of train.py]
#
# Ctrl-C or SIGTERM writes a checkpoint and ends them; the same command goes on from there.
set -u
PROCESSES=${PROCESSES:-2}   # each is what a host is elsewhere
DEVICES=${DEVICES:-1}       # CPU devices of each process
PORT=${PORT:-4321}          # free on this machine
[[ $PROCESSES =~ ^[0-9]{1,4}$ ]] || { echo "error: PROCESSES=$PROCESSES is not a number" >&2; exit 2; }

export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=$DEVICES
set -m   # processes of their own group: Ctrl-C reaches this script only
processes=()
for ((index = 0; index < PROCESSES; index++)); do
  "$(dirname "$0")/run.sh" "$@" "--distributed=localhost:$PORT,$index,$PROCESSES" &
  processes+=($!)
done
trap 'kill -TERM "${processes[0]}" 2>/dev/null' INT TERM   # one is enough: it tells the others

worst=0
for process in "${processes[@]}"; do
  while kill -0 "$process" 2>/dev/null; do wait "$process"; done
  wait "$process"
  status=$?
  [ "$status" -gt "$worst" ] && worst=$status
done
exit "$worst"
