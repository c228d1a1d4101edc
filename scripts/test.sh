#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# From a clean checkout to a tested build: installs what is missing, builds, runs every test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: scripts/test.sh [--preset NAME] [CTEST-ARGUMENTS]
  --preset NAME   release (default), debug, asan, tsan, coverage or cpu-only
Everything else goes to ctest: -R REGEX picks tests by name, -V shows their output, --rerun-failed runs the failed ones again.
TEXT
}

preset=release
case "${1:-}" in
  -h | --help) usage && exit 0 ;;
  --preset) preset=${2:?--preset needs a name} && shift 2 ;;
esac

scripts/setup.sh --tests
scripts/build.sh --preset "$preset" --tests

# Tests share the cores: a thread that spins while it waits for another takes the time of one that has work.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
# For the preset tsan.
export TSAN_OPTIONS=${TSAN_OPTIONS:-suppressions=$PWD/tests/thread_sanitizer.supp}

build=build/$preset
output=$build/ctest_output.txt
status=0
ctest --test-dir "$build" --output-on-failure --no-tests=error -j "$(nproc)" "$@" | tee "$output" || status=$?

# ctest shows a skipped test only if it runs alone; GoogleTest's own lines in the log show all, with the reason.
skipped=$(awk '
  /^lint: skipped, / { print "  " $0 }
  reason_follows { reason = $0; reason_follows = 0 }
  /: Skipped$/ { reason_follows = 1 }
  /^\[  SKIPPED \] .* \([0-9]+ ms\)$/ { print "  " $4 ": " (reason == "" ? "no reason given" : reason); reason = "" }
' "$build/Testing/Temporary/LastTest.log" 2> /dev/null | sort -u || true)
if [ -n "$skipped" ]; then
  printf '\nSkipped (not counted as passed):\n%s\n\n' "$skipped"
  # ctest's own summary is the last word.
  grep -E '^[0-9]+% tests passed|^Total Test time' "$output" || true
fi
exit "$status"
