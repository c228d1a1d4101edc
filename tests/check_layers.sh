#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Checks that includes follow the layers: what a folder may include is written in `allowed` below and nowhere else.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tests/check_layers.sh [ROOT]      check the sources under ROOT (default: this checkout)
       tests/check_layers.sh --self-test check that violations are found
Exit status: 0 clean, 1 violations (listed as file:line), 2 wrong use.
TEXT
}

layers="kernels runtime models data apps tests"

allowed() {
  case "$1" in
    kernels) echo "kernels" ;;
    runtime) echo "runtime kernels" ;;
    models) echo "models runtime kernels" ;;
    data) echo "data runtime kernels" ;;
    apps) echo "apps data models runtime kernels" ;;
    tests) echo "$layers" ;;
  esac
}

# Prints every violation under the given root; fails if there is one, or if there is nothing to check.
check_tree() {
  local root=$1 layer file line target head found=0 files=0
  for layer in $layers; do
    [ -d "$root/$layer" ] || continue
    while IFS= read -r -d '' file; do
      files=$((files + 1))
      while IFS=: read -r line target; do
        head=${target%%/*}
        if [[ "/$target/" == */../* ]]; then
          echo "${file#"$root"/}:$line: \"$target\" climbs out of its folder; write the path from the root"
          found=$((found + 1))
        elif [[ "$target" == */* && " $layers " == *" $head "* && " $(allowed "$layer") " != *" $head "* ]]; then
          echo "${file#"$root"/}:$line: $layer/ may not include \"$target\" (allowed: $(allowed "$layer"))"
          found=$((found + 1))
        fi
      done < <(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]([^">]+)[">].*/\1/;T;=;p' "$file" | paste -d: - -)
    done < <(find "$root/$layer" -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0)
  done
  if [ "$files" -eq 0 ]; then
    echo "no sources under $root"
    return 1
  fi
  [ "$found" -eq 0 ] && echo "$files files: includes follow the layers"
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
    printf '// a file\n%s\n' "$4" > "$root/$3"
    check_tree "$root" > /dev/null || outcome=refused
    if [ "$outcome" != "$2" ]; then
      echo "self-test: $3 with '$4' was $outcome, expected $2"
      failures=$((failures + 1))
    fi
  }
  try kernel_up refused kernels/a.cu '#include "runtime/tensor.h"'
  try kernel_data refused kernels/a.h '#include "data/image.h"'
  try runtime_up refused runtime/a.cpp '#include "models/losses/loss.h"'
  try models_data refused models/heads/a.h '#include "data/dataset.h"'
  try data_models refused data/a.cpp '#include "models/detector.h"'
  try product_tests refused apps/a.cpp '#include "tests/cuda/device_array.h"'
  try spaces refused kernels/deep/er/a.h '  #  include <runtime/tensor.h>  // why'
  try climbing refused kernels/a.h '#include "../runtime/tensor.h"'
  try kernel_self accepted kernels/a.cu '#include "kernels/view.h"'
  try system accepted kernels/a.cu '#include <vector>'
  try neighbour accepted kernels/a.cu '#include "runtime.h"'
  try comment accepted kernels/a.cu '// #include "runtime/tensor.h"'
  try models_down accepted models/a.h '#include "kernels/view.h"'
  try data_down accepted data/a.h '#include "runtime/tensor.h"'
  try apps_all accepted apps/a.cpp '#include "models/detector.h"'
  try tests_all accepted tests/apps/a.cpp '#include "apps/experiment.h"'
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
