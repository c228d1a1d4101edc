#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Prints one hash per result that a change of structure must leave as it is, bit for bit. To compare two builds:
#   tests/same_bits.sh before/bin > before.txt; tests/same_bits.sh after/bin > after.txt; diff before.txt after.txt
# Hashes of different machines differ: `-march=native` and libm round differently.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tests/same_bits.sh [BIN]
BIN is a build's folder of programs and tests (default: build/release/bin). Prints
  quickstart.checkpoint   60 steps of configs/quickstart.yaml on one thread, 5 to an epoch, validated after each
  quickstart.metrics      metrics.json and detections.json of that checkpoint on the test split
  step.*                  `inspect step` with each kind of loss; R50 is configs/reppoints_r50_grad_libra.yaml
  model.*                 `inspect model --json`
  emulated.step           the training step through the emulated CUDA kernels (left out if the test is not built)
TEXT
}

case "${1:-}" in
  -h | --help) usage && exit 0 ;;
  -*) usage >&2 && exit 2 ;;
esac
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=$(cd "${1:-$tree/build/release/bin}" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Checkpoints hold the path of their data: the same one, relative, in every run.
cd "$scratch"

hash_of() {
  local sum
  sum=$(cat "${@:2}" | sha256sum | cut -d ' ' -f 1)
  printf '%-24s %s\n' "$1" "$sum"
}
quietly() { "$@" > log.txt 2>&1 || { cat log.txt >&2 && exit 1; }; }

quickstart=$tree/configs/quickstart.yaml
r50=$tree/configs/reppoints_r50_grad_libra.yaml
here=(--device cpu --threads 1)
quietly "$bin/synthesize" --config "$quickstart" --output data synthesize.train=40 synthesize.val=4 synthesize.test=12

quietly "$bin/train" --config "$quickstart" --work-dir trained "${here[@]}" --stop-after-step 60 data.root=data schedule.epochs=20
hash_of quickstart.checkpoint trained/checkpoints/checkpoint_60.safetensors
quietly "$bin/evaluate" --checkpoint trained --output evaluated "${here[@]}"
hash_of quickstart.metrics evaluated/metrics.json evaluated/detections.json

# step NAME CONFIG OVERRIDES..: the dump of one step from random weights.
step() {
  quietly "$bin/inspect" step --config "$2" --output step.safetensors "${here[@]}" data.root=data train.pretrained= "${@:3}"
  hash_of "step.$1" step.safetensors
}
step r50 "$r50" loader.batch_size=2 loader.height=128 loader.width=160 loader.resize=fit
step cross_entropy "$quickstart" model.loss.type=cross_entropy model.loss.normalizer=num_valid
step focal "$quickstart" model.loss.type=focal model.loss.focal_gamma=1.5 model.loss.focal_alpha=0.25
step grad_libra_full "$quickstart" model.loss.weight_grad=full model.loss.alpha_pos=0.6 model.loss.normalizer=pos_plus_neg
step grad_libra_off "$quickstart" model.loss.alpha_neg=off model.head.transform=minmax

model() {
  "$bin/inspect" model --config "$2" --json > model.json
  hash_of "model.$1" model.json
}
model r50 "$r50"
model quickstart "$quickstart"

if [ -x "$bin/test_emulated_training" ]; then
  steps='TrainStepOnDevice.*:*/TrainStepOnDevice.*:-*OtherDetectors*'
  GRADLIBRA_PRINT_BITS=1 "$bin/test_emulated_training" --gtest_filter="$steps" > tests.txt
  grep '^bits ' tests.txt > bits.txt
  hash_of emulated.step bits.txt
fi
