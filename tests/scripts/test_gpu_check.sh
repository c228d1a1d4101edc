#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# scripts/gpu_check.sh where there is no GPU: all of it on the CPU, and with programs that fail, hang or are missing.
# usage: test_gpu_check.sh BIN    the folder of the built programs
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
bin=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
fail() { echo "FAILED: $1" && failures=$((failures + 1)); }
# expect FILE PATTERN: a line of the file matches.
expect() { grep -qE "$2" "$1" || fail "no line '$2' in $1: $(tail -n 30 "$1")"; }
check() { scripts/gpu_check.sh --bin "$bin" "$@" > "$work/out.txt" 2>&1; }

# Everything, at the smallest sizes: each stage passes, or says why it cannot run here.
check --device cpu --output "$work/all" || fail "--device cpu: $(cat "$work/out.txt")"
for stage in smoke tests network train step again kernels; do expect "$work/all/report.md" "^verdict: $stage passed"; done
for stage in memcheck racecheck warm ncu; do expect "$work/all/report.md" "^verdict: $stage skipped: needs a GPU"; done
expect "$work/all/report.md" '^verdict: pytorch (passed|skipped: PyTorch is not installed)'
expect "$work/all/report.md" 'gradlibra +fp32 +batch 2 .* ms .* images/s'
[ -s "$work/all/logs.tar.gz" ] || fail "no logs.tar.gz"
[ "$(find "$work/all" -type f | wc -l)" -eq 2 ] || fail "more than a report and an archive: $(ls "$work/all")"

# A second run: further figures after one where all was well.
check --device cpu --after "$work/all/report.md" --output "$work/second" || fail "--after: $(cat "$work/out.txt")"
for stage in tuned batches; do expect "$work/second/report.md" "^verdict: $stage passed"; done

# Several ranks, by name alone: by MPI on the CPU. Where a rank computes something else, it is seen.
check --device cpu --stage ranks --output "$work/ranks" || fail "--stage ranks: $(cat "$work/out.txt" "$work/ranks/report.md")"
expect "$work/ranks/report.md" '^verdict: ranks (passed|skipped: needs mpirun)'
check --stage ranks --dry-run || fail "--dry-run --stage ranks: $(cat "$work/out.txt")"
expect "$work/out.txt" '^ranks  .*four ranks on one GPU over NCCL'
if grep -q '^verdict: ranks passed' "$work/ranks/report.md"; then
  expect "$work/ranks/report.md" '^ranks: 2 by Open MPI'
  expect "$work/ranks/report.md" '^Two runs of 2 ranks end with the same bits'
  mkdir "$work/other"
  ln -s "$bin"/* "$work/other/" && rm "$work/other/train"
  # shellcheck disable=SC2016  # expanded when it runs
  printf '#!/bin/bash\ncase "$*" in *--ranks*) set -- "$@" schedule.lr=4 schedule.warmup_iterations=0 ;; esac\nexec %q "$@"\n' "$bin/train" > "$work/other/train"
  chmod +x "$work/other/train"
  scripts/gpu_check.sh --bin "$work/other" --device cpu --stage ranks --output "$work/differ" > "$work/out.txt" 2>&1 && fail "other losses passed"
  expect "$work/differ/report.md" '^\*\*The losses are out of bounds'
fi

# Programs that fail and hang, in front of the real ones: the others go on, and the report says which.
mkdir "$work/broken"
ln -s "$bin"/* "$work/broken/"
for name in test_runtime synthesize; do rm -f "$work/broken/$name"; done
printf '#!/bin/bash\necho "[  FAILED  ] Tensor.Breaks (1 ms)"; exit 1\n' > "$work/broken/test_runtime"
printf '#!/bin/bash\nsleep 60\n' > "$work/broken/synthesize"
chmod +x "$work/broken"/{test_runtime,synthesize}
start=$SECONDS
scripts/gpu_check.sh --bin "$work/broken" --device cpu --stage train --stage tests --stage step --seconds 25 --output "$work/fails" > "$work/out.txt" 2>&1
[ $? -eq 1 ] || fail "exit status with failures: $(cat "$work/out.txt")"
[ $((SECONDS - start)) -lt 50 ] || fail "--seconds 25 took $((SECONDS - start)) s"
expect "$work/fails/report.md" '^verdict: train ran out of its time'
scripts/gpu_check.sh --bin "$work/broken" --device cpu --stage tests --stage step --output "$work/fails" > "$work/out.txt" 2>&1
expect "$work/fails/report.md" '^verdict: tests failed, exit status 1'
expect "$work/fails/report.md" '^verdict: step passed'
expect "$work/fails/report.md" '^failed: test_runtime Tensor.Breaks'

# A test that hangs is ended with its stage, and does not run on beside what is timed next.
printf '#!/bin/bash\nexec -a gpu_check_orphan sleep 77\n' > "$work/broken/test_runtime"
scripts/gpu_check.sh --bin "$work/broken" --device cpu --stage network --seconds 15 --output "$work/hangs" > "$work/out.txt" 2>&1
expect "$work/hangs/report.md" '^verdict: network ran out of its time'
if grep -aq gpu_check_orphan /proc/[0-9]*/cmdline 2> /dev/null; then fail "a hanging test outlived its stage"; fi
printf '#!/bin/bash\necho "[  FAILED  ] Tensor.Breaks (1 ms)"; exit 1\n' > "$work/broken/test_runtime"

# A second run after that looks for the cause: the failed tests alone, and the step with less.
check --device cpu --after "$work/fails/report.md" --output "$work/cause" || fail "--after failures: $(cat "$work/out.txt")"
for stage in failed eager serial; do expect "$work/cause/report.md" "^verdict: $stage "; done

# With stand-ins for programs and tools it goes as far as on a GPU: no sanitizer, one that a sandbox refuses, one that
# finds something.
mkdir "$work/fake" "$work/tools"
printf '#!/bin/bash\nexit 0\n' > "$work/fake/inspect"
printf '#!/bin/bash\ncase "$*" in *list*) echo "ScalarCuda."; echo "  Works" ;; *) echo "[  PASSED  ] 1 test." ;; esac\n' > "$work/fake/test_cuda"
printf '#!/bin/bash\necho "gradlibra 0"\n' > "$work/fake/benchmark"
chmod +x "$work/fake"/*
sanitize() {
  PATH=$work/tools:$PATH scripts/gpu_check.sh --bin "$work/fake" --device cuda --stage memcheck --output "$work/sanitized" > "$work/out.txt" 2>&1
}
printf '#!/bin/bash\necho "========= Error: Device not supported"; exit 1\n' > "$work/tools/compute-sanitizer"
chmod +x "$work/tools/compute-sanitizer"
sanitize || fail "a refused sanitizer is no failure: $(cat "$work/out.txt")"
expect "$work/sanitized/report.md" '^verdict: memcheck skipped: compute-sanitizer is not possible here: .*Device not supported'
printf '#!/bin/bash\necho "========= Invalid __global__ write of size 4 bytes"; exit 9\n' > "$work/tools/compute-sanitizer"
sanitize && fail "an invalid write passed"
expect "$work/sanitized/report.md" '^verdict: memcheck failed'

# Wrong use.
for wrong in '--stage nonsense' '--device tpu' '--after /nowhere' '--nonsense'; do
  # shellcheck disable=SC2086
  scripts/gpu_check.sh $wrong > /dev/null 2>&1
  [ $? -eq 2 ] || fail "$wrong: exit status"
done

[ "$failures" -eq 0 ] && echo "gpu_check: all as expected"
