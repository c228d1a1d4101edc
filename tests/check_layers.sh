#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Checks that includes follow the layers: what a folder may include is written in `allowed` below and nowhere else. And
# that every folder of sources has a README.md.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tests/check_layers.sh [ROOT]      check the sources under ROOT (default: this checkout)
       tests/check_layers.sh --self-test check that violations are found
Exit status: 0 clean, 1 violations (listed as file:line), 2 wrong use.
TEXT
}

# From the bottom to the top. A room inside a folder is a layer of its own.
layers="kernels runtime/base runtime/device runtime/autograd runtime/distributed runtime/training models data/images"
layers+=" data/datasets data/loading data/synthetic data/slides data/metrics engine benchmarks apps tests"

allowed() {
  local runtime="runtime/base runtime/device runtime/autograd runtime/distributed runtime/training kernels"
  local data="data/images data/datasets data/loading data/synthetic data/slides data/metrics"
  case "$1" in
    kernels) echo "kernels" ;;
    runtime/base) echo "runtime/base" ;;
    runtime/device) echo "runtime/device runtime/base kernels" ;;
    runtime/autograd) echo "runtime/autograd runtime/device runtime/base kernels" ;;
    runtime/distributed) echo "runtime/distributed runtime/device runtime/base kernels" ;;
    runtime/training) echo "$runtime" ;;
    models) echo "models $runtime" ;;
    data/images) echo "data/images runtime/base" ;;
    data/datasets) echo "data/datasets data/images runtime/base" ;;
    data/loading) echo "data/loading data/datasets data/images runtime/base" ;;
    data/synthetic) echo "data/synthetic data/datasets data/images runtime/base" ;;
    data/slides) echo "data/slides data/datasets data/images runtime/base" ;;
    data/metrics) echo "data/metrics data/datasets data/images runtime/base" ;;
    engine) echo "engine $data models $runtime" ;;
    benchmarks) echo "benchmarks engine $data models $runtime" ;;
    apps) echo "apps benchmarks engine $data models $runtime" ;;
    tests) echo "$layers" ;;
  esac
}

# The layer that a path from the root belongs to; nothing for what is none of ours.
layer_of() {
  local layer
  for layer in $layers; do
    if [[ "$1" == "$layer"/* ]]; then echo "$layer" && return; fi
  done
  # In one of our folders but in none of its rooms.
  case "${1%%/*}" in kernels | runtime | models | data | engine | benchmarks | apps | tests) [[ "$1" == */* ]] && echo "${1%%/*}" ;; esac
  return 0
}

# Prints every violation under the given root; fails if there is one, or if there is nothing to check.
check_tree() {
  local root=$1 folder file name home layer line target head found=0 files=0
  local -A seen=()
  for folder in kernels runtime models data engine benchmarks apps tests; do
    [ -d "$root/$folder" ] || continue
    while IFS= read -r -d '' file; do
      files=$((files + 1))
      name=${file#"$root"/} layer=$(layer_of "$name")
      # A folder of tests speaks for its rooms, which mirror the tree.
      home=${name%/*}
      if [[ $home =~ ^tests/[^/]+ ]]; then home=${BASH_REMATCH[0]}; fi
      if [ -z "${seen[$home]:-}" ] && [ ! -f "$root/$home/README.md" ]; then
        echo "$home/ has sources and no README.md"
        found=$((found + 1))
      fi
      seen[$home]=1
      if [ -z "$(allowed "$layer")" ]; then
        echo "$name: stands in no room of $folder/ (rooms: $(tr ' ' '\n' <<< "$layers" | grep "^$folder/" | paste -sd ' '))"
        found=$((found + 1)) && continue
      fi
      while IFS=: read -r line target; do
        if [[ "/$target/" == */../* ]]; then
          echo "$name:$line: \"$target\" climbs out of its folder; write the path from the root"
          found=$((found + 1)) && continue
        fi
        head=$(layer_of "$target")
        if [ -n "$head" ] && [[ " $(allowed "$layer") " != *" $head "* ]]; then
          echo "$name:$line: $layer/ may not include \"$target\" (allowed: $(allowed "$layer"))"
          found=$((found + 1))
        fi
      done < <(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]([^">]+)[">].*/\1/;T;=;p' "$file" | paste -d: - -)
    done < <(find "$root/$folder" -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0)
  done
  if [ "$files" -eq 0 ]; then
    echo "no sources under $root"
    return 1
  fi
  [ "$found" -eq 0 ] && echo "$files files: includes follow the layers, each folder has a README.md"
}

scratch=""
self_test() {
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  # try NAME EXPECTED FILE INCLUDE: one file with one include line in an otherwise empty tree.
  local failures=0
  try() {
    local root=$scratch/$1 outcome=accepted
    mkdir -p "$root/$(dirname "$3")"
    touch "$root/$(dirname "$3")/README.md" "$root/${3%%/*}/README.md"
    printf '// a file\n%s\n' "$4" > "$root/$3"
    check_tree "$root" > /dev/null || outcome=refused
    if [ "$outcome" != "$2" ]; then
      echo "self-test: $3 with '$4' was $outcome, expected $2"
      failures=$((failures + 1))
    fi
  }
  try kernel_up refused kernels/a.cu '#include "runtime/device/tensor.h"'
  try kernel_data refused kernels/boxes/a.h '#include "data/images/image.h"'
  try base_device refused runtime/base/a.h '#include "runtime/device/context.h"'
  try base_kernels refused runtime/base/a.cpp '#include "kernels/view.h"'
  try device_tape refused runtime/device/a.cpp '#include "runtime/autograd/tape.h"'
  try tape_training refused runtime/autograd/ops/a.cpp '#include "runtime/training/parameters.h"'
  try ranks_tape refused runtime/distributed/a.h '#include "runtime/autograd/tape.h"'
  try no_room refused runtime/a.h '#include <vector>'
  try room_gone refused engine/a.h '#include "runtime/context.h"'
  try runtime_up refused runtime/training/a.cpp '#include "models/losses/loss.h"'
  try models_data refused models/heads/a.h '#include "data/datasets/dataset.h"'
  try data_models refused data/metrics/a.cpp '#include "models/detector.h"'
  try data_device refused data/loading/a.cpp '#include "runtime/device/tensor.h"'
  try data_across refused data/images/a.cpp '#include "data/loading/loader.h"'
  try engine_up refused engine/a.cpp '#include "benchmarks/measure.h"'
  try product_tests refused apps/a.cpp '#include "tests/cuda/device_array.h"'
  try spaces refused kernels/deep/er/a.h '  #  include <runtime/device/tensor.h>  // why'
  try climbing refused kernels/a.h '#include "../runtime/device/tensor.h"'
  try kernel_self accepted kernels/a.cu '#include "kernels/view.h"'
  try system accepted kernels/a.cu '#include <vector>'
  try neighbour accepted kernels/a.cu '#include "runtime.h"'
  try comment accepted kernels/a.cu '// #include "runtime/device/tensor.h"'
  try models_down accepted models/a.h '#include "kernels/view.h"'
  try training_all accepted runtime/training/a.h '#include "runtime/distributed/communicator.h"'
  try data_base accepted data/loading/a.h '#include "runtime/base/random.h"'
  try engine_all accepted engine/a.cpp '#include "models/detector.h"'
  try tests_all accepted tests/engine/a.cpp '#include "engine/experiment_config.h"'
  # The README that stands there is not that of the file's folder.
  bare() {
    mkdir -p "$scratch/$1/$(dirname "$3")"
    touch "$scratch/$1/$4" "$scratch/$1/$3"
    local outcome=accepted
    check_tree "$scratch/$1" > /dev/null || outcome=refused
    if [ "$outcome" != "$2" ]; then
      echo "self-test: $3 beside $4 was $outcome, expected $2"
      failures=$((failures + 1))
    fi
  }
  bare readme_above refused models/heads/a.h models/README.md
  bare readme_none refused tests/engine/a.cpp tests/README.md
  bare readme_room accepted tests/engine/plots/a.cpp tests/engine/README.md
  mkdir "$scratch/nothing"
  if check_tree "$scratch/nothing" > /dev/null; then
    echo "self-test: an empty tree was accepted"
    failures=$((failures + 1))
  fi
  [ "$failures" -eq 0 ] && echo "self-test: all violations found, nothing else refused"
}

case "${1:-}" in
  -h | --help) usage ;;
  --self-test) self_test ;;
  -*)
    usage >&2
    exit 2
    ;;
  *) check_tree "$(cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}" && pwd)" ;;
esac
