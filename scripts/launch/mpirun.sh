#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A training as ranks on several machines, by Open MPI's mpirun.
set -euo pipefail
# shellcheck source=scripts/launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'TEXT'
usage: scripts/launch/mpirun.sh --ranks N [--hosts LIST] [--threads N] [--bin DIR] [--dry-run] -- ARGUMENTS OF train
  --ranks N      ranks in all
  --hosts LIST   node1:2,node2:2: two ranks on each; default: this machine, or what a scheduler gave to mpirun
  --threads N    CPU threads of a rank; default: what train chooses
  --bin DIR      where train is, on every host; default: build/release/bin of this checkout, or the one on PATH
  --dry-run      print the command instead of running it
LD_LIBRARY_PATH and what is set of NCCL_*, OMP_*, GOMP_*, CUDNN_* and GRADLIBRA_* goes along to every host.
For an orderly end with a checkpoint send SIGUSR1 to mpirun, which passes it on. Ctrl-C and SIGTERM leave the ranks one
second. Exit status: that of the first rank that did not end with 0; 2 for wrong use.
TEXT
}

ranks="" hosts="" threads="" bin="" dry_run=false
while [ $# -gt 0 ]; do
  case "$1" in
    --ranks) need_value "$@" && ranks=$2 && shift 2 ;;
    --hosts) need_value "$@" && hosts=$2 && shift 2 ;;
    --threads) need_value "$@" && threads=$2 && shift 2 ;;
    --bin) need_value "$@" && bin=$2 && shift 2 ;;
    --dry-run) dry_run=true && shift ;;
    -h | --help) usage && exit 0 ;;
    --) shift && break ;;
    *) usage >&2 && exit 2 ;;
  esac
done
if [ $# -eq 0 ] || [ -z "$ranks" ]; then usage >&2 && exit 2; fi
need_number --ranks "$ranks" 1 && need_number --threads "${threads:-0}" 0
bin=$(folder_of_train "$bin")
$dry_run || [ -n "$hosts" ] || need_train "$bin" # elsewhere it is mpirun that finds it or not

# -q: without a page about the first rank that ends. The ranks' threads are not bound to one processor.
command=(mpirun -q --bind-to none -np "$ranks")
[ -z "$hosts" ] || command+=(--host "$hosts")
[ -n "$hosts" ] || command+=(--oversubscribe)
[ "$(id -u)" -ne 0 ] || command+=(--allow-run-as-root)
# What the environment says of libraries, over ssh as well.
while read -r name; do
  case "$name" in LD_LIBRARY_PATH | NCCL_* | OMP_* | GOMP_* | CUDNN_* | GRADLIBRA_*) command+=(-x "$name") ;; esac
done < <(compgen -e)
command+=("$bin/train" "$@" --resume)
[ -z "$threads" ] || command+=(--threads "$threads")
if $dry_run; then
  printf '%q ' "${command[@]}" && echo
  exit
fi
exec "${command[@]}"
