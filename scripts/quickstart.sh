#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# From a clean checkout to a trained detector, its table of average precisions and pictures with the cells it found.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

config=configs/quickstart.yaml
out=out/quickstart
bin=build/release/bin
synthesize=("$bin/synthesize" --config "$config" --output "$out/data")
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
  --compare   afterwards the same with cross-entropy, in the setting that was chosen for it as docs/results/protocol.md has
              it (Grad-Libra has that of the configuration), and both results side by side
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

go_on() {
  printf '\nInterrupted; %s. Run scripts/quickstart.sh again to go on.\n' "$1" >&2
  exit "$2"
}

# train FOLDER ARGUMENTS..: trains in the background, so that a signal to this script reaches the training at once,
# which then leaves a checkpoint. Only a training that got to its end is worth evaluating.
train() {
  local folder=$1 code=0 child="" caught=0
  shift
  trap 'caught=130; [ -z "$child" ] || kill -TERM "$child" 2> /dev/null || true' INT
  trap 'caught=143; [ -z "$child" ] || kill -TERM "$child" 2> /dev/null || true' TERM HUP
  "$bin/train" --config "$config" --work-dir "$folder" --resume "$@" &
  child=$!
  if [ "$caught" -ne 0 ]; then kill -TERM "$child" 2> /dev/null || true; fi
  # A trap ends `wait` early: it is taken up again until the training is gone.
  while kill -0 "$child" 2> /dev/null; do wait "$child" || true; done
  wait "$child" || code=$?
  trap - INT TERM HUP
  if [ "$caught" -ne 0 ]; then go_on "the training has left a checkpoint in $folder" "$caught"; fi
  if [ "$code" -ne 0 ]; then exit "$code"; fi
  if [ ! -e "$folder/finished" ]; then go_on "the training in $folder is not finished" 143; fi
}

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
train "$out/train"

step "evaluate on the test split"
"${evaluate[@]}"

step "write the report"
"$bin/report" "$out/train" --evaluation "$out" --output "$out/report.html"

# The means of a metrics.json, in per cent.
means() {
  awk -v name="$1" -F '[:,]' '/"(mAP|AP_f|AP_c|AP_r|mR_r)"/ { gsub(/[ "]/, "", $1); value[$1] = 100 * $2 }
    END { printf "%-14s %8.1f %8.1f %8.1f %8.1f %8.1f\n", name, value["mAP"], value["AP_f"], value["AP_c"], value["AP_r"], value["mR_r"] }' "$2"
}
if $compare; then
  # The setting that the protocol of docs/results chose for cross-entropy: half the rate, weight 1.
  step "train with cross-entropy, for comparison"
  train "$out/cross_entropy/train" model.loss.type=cross_entropy model.loss.weight=1 schedule.lr=0.02
  "$bin/evaluate" --checkpoint "$out/cross_entropy/train" --output "$out/cross_entropy"
  printf '\n%-14s %8s %8s %8s %8s %8s\n' "per cent" mAP@0.5 AP_f AP_c AP_r mR_r
  means Grad-Libra "$out/metrics.json"
  means cross-entropy "$out/cross_entropy/metrics.json"
fi

printf '\nDone. %s/report.html shows all of it, %s/metrics.json has the numbers, %s/pictures/ the pictures.\n' "$out" "$out" "$out"
