#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Which lines the tests run: builds with counters, runs the tests, prints the share for each folder and for the files
# with the least.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: scripts/coverage.sh [--report] [CTEST-ARGUMENTS]
  --report   only print what earlier tests left in build/coverage
Everything else goes to ctest: -L unit runs only tests with that label. CUDA sources count, since the emulator runs them. Line by line:
build/coverage/lines.txt, as "count:line:file"; 0 is a line that nothing ran.
TEXT
}

report=false
case "${1:-}" in
  -h | --help) usage && exit 0 ;;
  --report) report=true && shift ;;
esac

build=build/coverage
if ! $report; then
  scripts/setup.sh --tests
  scripts/build.sh --preset coverage --tests
  find "$build" -name '*.gcda' -delete
  OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} ctest --test-dir "$build" --output-on-failure -j "$(nproc)" "$@" ||
    echo "coverage: some tests failed; the lines they ran count" >&2
fi

mapfile -t -d '' notes < <(find "$build" -name '*.gcda' -print0 2> /dev/null)
if [ ${#notes[@]} -eq 0 ]; then echo "coverage: no test has run in $build" >&2 && exit 1; fi
# gcov prints every source as "count:line:text" behind a line "-:0:Source:file". A header or template counts with the
# most of its copies.
gcov --stdout --relative-only --source-prefix "$PWD" "${notes[@]}" 2> /dev/null | awk -F : '
  $2 + 0 == 0 && $3 == "Source" { file = $4; ours = file ~ /^(apps|benchmarks|data|engine|kernels|models|runtime)\// ; next }
  !ours || $1 ~ /^ *-$/ || $2 + 0 == 0 { next }
  { count = $1 ~ /#|=/ ? 0 : $1 + 0; at = ($2 + 0) ":" file; if (!(at in most) || count > most[at]) most[at] = count }
  END { for (at in most) print most[at] ":" at }' | sort -t : -k 3,3 -k 2,2n > "$build/lines.txt"
awk -F : '
  { file = $3; folder = file; sub(/\/[^\/]*$/, "", folder)
    all[folder]++; of[file]++
    if ($1 > 0) { run[folder]++; ran[file]++; total_run++ }
    total++ }
  END {
    for (folder in all) printf "1 %6.1f %% of %6d lines  %s/\n", 100 * run[folder] / all[folder], all[folder], folder
    for (file in of) if (of[file] >= 10 && ran[file] < 0.8 * of[file]) printf "2 %6.1f %% of %6d lines  %s\n", 100 * ran[file] / of[file], of[file], file
    printf "3 %6.1f %% of %6d lines\n", 100 * total_run / total, total
  }' "$build/lines.txt" | sort -k 1,1n -k 6,6 -k 2,2n | awk '
  $1 == 2 && !told { print "\nbelow 80 %:"; told = 1 }
  $1 == 3 { print "\nall together:" }
  { sub(/^[123]/, ""); print }'
