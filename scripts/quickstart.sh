#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# From a clean checkout to a trained detector, its table of average precisions and pictures with the cells it found.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

config=configs/quickstart.yaml
out=out/quickstart
bin=build/release/bin
synthesize=("$bin/synthesize" --config "$config" --output "$out/data")
train=("$bin/train" --config "$config" --work-dir "$out/train" --resume)
evaluate=("$bin/evaluate" --checkpoint "$out/train" --output "$out" --pictures 24)

usage() {
  cat <<TEXT
usage: scripts/quickstart.sh [--fresh]
Installs what is missing, builds, and under $out/
  data/         draws stained cells of ten classes
  train/        trains RepPoints with Grad-Libra on them (minutes; uses a GPU when there is one)
  metrics.json  evaluates on a split that training never saw, and prints the table
  pictures/     test patches with the boxes that were found
Run again after an interruption, it goes on where it stopped.
  --fresh   starts over: removes $out/ first
TEXT
}

case "${1:-}" in
  "") ;;
  -h | --help) usage && exit 0 ;;
  --fresh) rm -rf "$out" ;;
  *) usage >&2 && exit 2 ;;
esac

step() { printf '\n== %s\n' "$1"; }

step "set up and build"
scripts/setup.sh
scripts/build.sh --apps --native
mkdir -p "$out"

# A changed configuration means other data or another model: both start over.
recipe=$(cksum < "$config")
if [ "$(cat "$out/data.done" 2> /dev/null || true)" != "$recipe" ]; then
  if [ -e "$out/data.done" ]; then echo "$config changed since the last run: starting over"; fi
  step "draw the data set"
  rm -rf "$out/data" "$out/train" "$out/data.done"
  "${synthesize[@]}"
  echo "$recipe" > "$out/data.done"
fi

step "train"
"${train[@]}"

step "evaluate on the test split"
"${evaluate[@]}"

printf '\nDone. %s/metrics.json has the numbers, %s/pictures/ the pictures.\n' "$out" "$out"
