#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A training with the environment that torchrun gives to its processes; neither Python nor torchrun is needed.
set -euo pipefail
# shellcheck source=scripts/launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'TEXT'
usage: scripts/launch/torchrun.sh [--nproc-per-node N] [--nnodes N --node-rank R --master HOST:PORT] [--job NAME]
                                  [--bin DIR] [--dry-run] -- ARGUMENTS OF train
  --nproc-per-node N   ranks on this machine; default 1
  --nnodes N           machines; each runs this script; default 1
  --node-rank R        which of them this one is, from 0; default 0
  --master HOST:PORT   where rank 0 can be reached; required for several machines, else 127.0.0.1:29500
  --job NAME           the same on all machines: ranks of another job that come to the same port are refused
  --bin DIR            where train is; default: build/release/bin of this checkout, or the one on PATH
  --dry-run            print the commands instead of running them
Sets RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT for each rank, as existing job scripts
and operators do; train reads them. Ranks on GPUs meet at the master; ranks on CPUs talk by MPI, which mpirun.sh starts,
and train says so where several are started here.
When one rank ends with an error, the others here are ended, what is left after 15 s (GRADLIBRA_KILL_AFTER) by force.
Exit status: the first that was not 0; 2 for wrong use.
TEXT
}

local_ranks=1 nodes=1 node=0 master="" job="" bin="" dry_run=false
while [ $# -gt 0 ]; do
  case "$1" in
    --nproc-per-node) need_value "$@" && local_ranks=$2 && shift 2 ;;
    --nnodes) need_value "$@" && nodes=$2 && shift 2 ;;
    --node-rank) need_value "$@" && node=$2 && shift 2 ;;
    --master) need_value "$@" && master=$2 && shift 2 ;;
    --job) need_value "$@" && job=$2 && shift 2 ;;
    --bin) need_value "$@" && bin=$2 && shift 2 ;;
    --dry-run) dry_run=true && shift ;;
    -h | --help) usage && exit 0 ;;
    --) shift && break ;;
    *) usage >&2 && exit 2 ;;
  esac
done
need_number --nproc-per-node "$local_ranks" 1 && need_number --nnodes "$nodes" 1 && need_number --node-rank "$node" 0
if [ -z "$master" ] && [ "$nodes" -gt 1 ]; then
  echo "torchrun.sh: --nnodes $nodes needs --master HOST:PORT, the same on all of them" >&2 && exit 2
fi
master=${master:-127.0.0.1:29500}
if [ $# -eq 0 ] || [[ "$master" != *:* ]] || [ "$node" -ge "$nodes" ]; then usage >&2 && exit 2; fi
bin=$(folder_of_train "$bin")
$dry_run || need_train "$bin"

children=() caught=""
send() { [ ${#children[@]} -eq 0 ] || kill "-$1" "${children[@]}" 2> /dev/null || true; }
# shellcheck disable=SC2317  # called by the traps
pass_on() { caught=$1 && send "$1"; }
for signal in INT TERM HUP USR1 USR2; do
  # shellcheck disable=SC2064  # each trap has its own signal
  trap "pass_on $signal" "$signal"
done
for ((i = 0; i < local_ranks; ++i)); do
  command=(env ${job:+"TORCHELASTIC_RUN_ID=$job"} RANK=$((node * local_ranks + i)) WORLD_SIZE=$((nodes * local_ranks)) LOCAL_RANK="$i"
    LOCAL_WORLD_SIZE="$local_ranks" MASTER_ADDR="${master%:*}" MASTER_PORT="${master##*:}" "$bin/train" "$@" --resume)
  if $dry_run; then
    printf '%q ' "${command[@]}" && echo
  else
    "${command[@]}" &
    children+=($!)
    if [ -n "$caught" ]; then send "$caught"; fi # it came before this one could be told
  fi
done

# Looks ten times a second instead of `wait -n`, by which bash misses a child that ends just as the wait begins: it
# would sit there for as long as the other ranks go on.
first=0 killed_at=0
while [ ${#children[@]} -gt 0 ]; do
  running=() failed=false
  for child in "${children[@]}"; do
    if kill -0 "$child" 2> /dev/null; then
      running+=("$child") && continue
    fi
    code=0
    wait "$child" || code=$?
    if [ "$code" -ne 0 ] && [ "$first" -eq 0 ]; then first=$code failed=true; fi
  done
  children=(${running[@]+"${running[@]}"})
  if $failed; then
    send TERM
    killed_at=$((SECONDS + ${GRADLIBRA_KILL_AFTER:-15}))
  fi
  if [ "$first" -ne 0 ] && [ "$SECONDS" -ge "$killed_at" ]; then send KILL; fi # one that is stopped hears nothing else
  [ ${#children[@]} -eq 0 ] || sleep 0.1 || true # which a signal to all of this terminal's processes ends too
done
exit "$first"
