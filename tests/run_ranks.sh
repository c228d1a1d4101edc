#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program as ranks on this machine, however few processors it has: for tests.
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: tests/run_ranks.sh MPIRUN RANKS PROGRAM [ARGUMENTS..]" >&2 && exit 2; }
mpirun=$1 ranks=$2
shift 2
root=()
[ "$(id -u)" -ne 0 ] || root=(--allow-run-as-root)
# MPI keeps memory until its end.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
exec "$mpirun" -q --oversubscribe --bind-to none --mca btl_vader_single_copy_mechanism none "${root[@]}" -np "$ranks" "$@"
