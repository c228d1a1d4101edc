#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A training as several ranks on this machine, which goes on from its last checkpoint when a rank is lost.
set -euo pipefail
# shellcheck source=scripts/launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'TEXT'
usage: scripts/launch/local.sh [--ranks N] [--restarts N] [--bin DIR] [--dry-run] -- ARGUMENTS OF train
  --ranks N      ranks on this machine; default 2
  --restarts N   start again so often, from the last checkpoint, after a rank was killed or lost; default 0
  --bin DIR      where train is; default: build/release/bin of this checkout, or the one on PATH
  --dry-run      print the command instead of running it
Signals go to all ranks, which leave with a checkpoint; that is the end, whatever --restarts says. The arguments name
--config and --work-dir; --resume is added.
Exit status: that of train; 2 for wrong use.
TEXT
}

ranks=2 restarts=0 bin="" dry_run=false
while [ $# -gt 0 ]; do
  case "$1" in
    --ranks) need_value "$@" && ranks=$2 && shift 2 ;;
    --restarts) need_value "$@" && restarts=$2 && shift 2 ;;
    --bin) need_value "$@" && bin=$2 && shift 2 ;;
    --dry-run) dry_run=true && shift ;;
    -h | --help) usage && exit 0 ;;
    --) shift && break ;;
    *) usage >&2 && exit 2 ;;
  esac
done
[ $# -gt 0 ] || { usage >&2 && exit 2; }
need_number --ranks "$ranks" 1 && need_number --restarts "$restarts" 0
bin=$(folder_of_train "$bin")
$dry_run || need_train "$bin"

command=("$bin/train" "$@" --resume --ranks "$ranks")
if $dry_run; then
  printf '%q ' "${command[@]}" && echo
  exit
fi

child="" stopped=false
pass_on() {
  stopped=true
  [ -z "$child" ] || kill "-$1" "$child" 2> /dev/null || true
}
for signal in INT TERM HUP USR1 USR2; do
  # shellcheck disable=SC2064  # each trap has its own signal
  trap "pass_on $signal" "$signal"
done

# 5: another rank was lost; above 128 a signal ended one, but for 130: Ctrl-C.
is_loss() { [ "$1" -eq 5 ] || { [ "$1" -gt 128 ] && [ "$1" -ne 130 ]; }; }

for ((start = 0; ; ++start)); do
  "${command[@]}" &
  child=$! code=0
  if $stopped; then kill -USR1 "$child" 2> /dev/null || true; fi # a signal came before there was anyone to pass it on to
  while kill -0 "$child" 2> /dev/null; do wait "$child" || true; done # a signal ends a wait, not the training
  wait "$child" || code=$?
  if $stopped || ! is_loss "$code" || [ "$start" -ge "$restarts" ]; then exit "$code"; fi
  echo "local.sh: a rank was lost (exit code $code); start $((start + 1)) of $restarts again, from the last checkpoint" >&2
done
