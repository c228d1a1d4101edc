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
usage: scripts/quickstart.sh [--fresh] [--compare]
Installs what is missing, builds, and under $out/
  data/         draws stained cells of ten classes
  train/        trains RepPoints with Grad-Libra on them (minutes; uses a GPU when there is one)
  metrics.json  evaluates on a split that training never saw, and prints the table
  pictures/     test patches with the boxes that were found
Run again after an interruption, it goes on where it stopped.
  --fresh     starts over: removes $out/ first
  --compare   afterwards the same with cross-entropy, in the setting that docs/results/protocol.md chose for it (Grad-Libra
              has that of the configuration), and both results side by side
TEXT
}

compare=false
for option in "$@"; do
  case "$option" in
    -h | --help) usage && exit 0 ;;
    --fresh) rm -rf "$out" ;;
    --compare) compare=true ;;
    *) usage >&2 && exit 2 ;;
  esac
done

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
  rm -rf "$out/data" "$out/train" "$out/cross_entropy" "$out/data.done"
  "${synthesize[@]}"
  echo "$recipe" > "$out/data.done"
fi

step "train"
"${train[@]}"

step "evaluate on the test split"
"${evaluate[@]}"

# The means of a metrics.json, in per cent.
means() {
  awk -v name="$1" -F '[:,]' '/"(mAP|AP_f|AP_c|AP_r|mR_r)"/ { gsub(/[ "]/, "", $1); value[$1] = 100 * $2 }
    END { printf "%-14s %8.1f %8.1f %8.1f %8.1f %8.1f\n", name, value["mAP"], value["AP_f"], value["AP_c"], value["AP_r"], value["mR_r"] }' "$2"
}
if $compare; then
  # The setting that the protocol of docs/results chose for cross-entropy: half the rate, weight 1.
  step "train with cross-entropy, for comparison"
  "$bin/train" --config "$config" --work-dir "$out/cross_entropy/train" --resume model.loss.type=cross_entropy model.loss.weight=1 schedule.lr=0.015
  "$bin/evaluate" --checkpoint "$out/cross_entropy/train" --output "$out/cross_entropy"
  printf '\n%-14s %8s %8s %8s %8s %8s\n' "per cent" mAP@0.5 AP_f AP_c AP_r mR_r
  means Grad-Libra "$out/metrics.json"
  means cross-entropy "$out/cross_entropy/metrics.json"
fi

printf '\nDone. %s/metrics.json has the numbers, %s/pictures/ the pictures.\n' "$out" "$out"
