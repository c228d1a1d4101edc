#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Does everything work on this GPU, and how fast? Tests, sanitizer, benchmarks, a comparison with PyTorch, a short training; one report.
set -uo pipefail

stages=(tests sanitizer kernels step data pytorch train)
declare -A limit=([tests]=90 [sanitizer]=70 [kernels]=80 [step]=70 [data]=25 [pytorch]=100 [train]=95)  # seconds, 530 in total
declare -A what=(
  [tests]="device tests: every kernel against its host version"
  [sanitizer]="compute-sanitizer: memory errors in all device tests, races in those with shared memory"
  [kernels]="benchmark kernels: share of the device's best rates"
  [step]="benchmark step: training steps a second"
  [data]="benchmark data: images a second from files and from the cache"
  [pytorch]="the same training step in PyTorch (scripts/compare)"
  [train]="a short training on the GPU, and the same on the CPU as far as it gets")

# What training steps are measured in, here and in PyTorch.
precisions=(bf16 tf32 fp32)

usage() {
  cat <<TEXT
usage: scripts/gpu_check.sh [--stage NAME]... [--device cuda|cpu] [--bin DIR] [--output DIR] [--dry-run]
  --stage NAME   only this stage; may be given several times. All of them take less than nine minutes:
$(for s in "${stages[@]}"; do printf '                   %-10s at most %3d s  %s\n' "$s" "${limit[$s]}" "${what[$s]}"; done)
  --device cpu   smallest sizes on the CPU: tries this script and its stages where there is no GPU
  --bin DIR      programs and tests; default: bin/ of a bundle (scripts/bundle.sh), else build/release/bin/
  --output DIR   default out/gpu_check beside scripts/: report.md, and per stage a log and what it measured as JSON
  --dry-run      prints what would run
A stage that fails or runs out of time does not stop the others. Exit status: 0 every stage passed (of a run of all stages, those whose
tool is missing are named as skipped), 1 not so, 2 wrong use, 77 there is no usable GPU and nothing was run.
TEXT
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
device=cuda bin="" out=$root/out/gpu_check dry_run=false inside="" asked=()
while [ $# -gt 0 ]; do
  case "$1" in
    --stage) asked+=("${2:?--stage needs a name}") && shift 2 ;;
    --device) device=${2:?--device needs cuda or cpu} && shift 2 ;;
    --bin) bin=${2:?--bin needs a folder} && shift 2 ;;
    --output) out=${2:?--output needs a folder} && shift 2 ;;
    --dry-run) dry_run=true && shift ;;
    --inside) inside=${2:?} && shift 2 ;;  # how this script runs a stage of its own under `timeout`
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done
if [ "$device" != cuda ] && [ "$device" != cpu ]; then usage >&2 && exit 2; fi
if [ "$device" = cpu ]; then precisions=(fp32); fi
for s in ${asked[@]+"${asked[@]}"}; do
  if [ -z "${limit[$s]:-}" ]; then echo "gpu_check: no stage '$s'; there are ${stages[*]}" >&2 && exit 2; fi
done
chosen=(${asked[@]+"${asked[@]}"})
if [ ${#chosen[@]} -eq 0 ]; then chosen=("${stages[@]}"); fi

out=$(realpath -m "$out")
if [ -n "$bin" ]; then bin=$(realpath -m "$bin"); elif [ -x "$root/bin/train" ]; then bin=$root/bin; else bin=$root/build/release/bin; fi
cd "$root" || exit 1

# --- stages: each writes to its log (stdout and stderr) and may add to its part of the report; 77: skipped, the reason on the last line ---

report() { printf '%s\n' "$@" >> "$out/$inside.md"; }
run() {
  printf '+ %s\n' "$*" >&2
  "$@"
}
skip() { echo "$1" && exit 77; }
# The value of a field in a line of JSON without nested objects.
field() { sed -nE "s/.*\"$2\":\"?([^,\"}]*)[\",}].*/\1/p" <<< "$1" | head -n 1; }

stage_tests() {
  local status=0 binary passed skipped text
  local binaries=(test_cuda test_cudnn test_training test_runtime test_models)
  if [ "$device" = cpu ]; then binaries=(test_runtime test_models); fi
  report "| tests | passed | skipped | failed |" "| --- | --- | --- | --- |"
  for binary in "${binaries[@]}"; do
    if [ ! -x "$bin/$binary" ]; then
      echo "$bin/$binary is not there: build it first" && report "| $binary | not built | | |" && status=1
      continue
    fi
    run "$bin/$binary" --gtest_brief=1 > "$out/$binary.txt" 2>&1 || status=1
    cat "$out/$binary.txt"
    count() { sed -nE "s/^\[ *$1 *\] ([0-9]+) tests?.*/\1/p" "$out/$binary.txt" | head -n 1; }
    passed=$(count PASSED) skipped=$(count SKIPPED) text=$(count FAILED)
    report "| $binary | ${passed:-0} | ${skipped:-0} | ${text:-0} |"
    # No test that passed, or device tests that were skipped, prove nothing.
    if [ "${passed:-0}" -eq 0 ]; then status=1; fi
    if [ "$binary" = test_cuda ] && [ "${skipped:-0}" -gt 0 ]; then status=1; fi
  done
  return "$status"
}

stage_sanitizer() {
  if [ "$device" = cpu ]; then skip "needs a GPU"; fi
  local sanitizer status=0
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null) ||
    skip "compute-sanitizer is not installed (part of the CUDA toolkit)"
  run "$sanitizer" --tool memcheck --leak-check no --error-exitcode 9 "$bin/test_cuda" --gtest_brief=1 || status=1
  report "memcheck on all device tests: $([ "$status" -eq 0 ] && echo "no error" || echo "**errors**, see sanitizer.log")" ""
  run "$sanitizer" --tool racecheck --error-exitcode 9 "$bin/test_cuda" --gtest_brief=1 \
    --gtest_filter='ReduceCuda.*:*NormCuda.*:NmsCuda.*:SigmoidLossCuda.*:SmoothL1Cuda.*' || {
    status=1
    report "racecheck: **errors**, see sanitizer.log"
  }
  return "$status"
}

stage_kernels() {
  local options=(--seconds 0.03)
  if [ "$device" = cpu ]; then options=(--threads 1 --seconds 0.001 --batch 1 --size 64 --filter norm); fi
  run "$bin/benchmark" kernels --device "$device" --json "${options[@]}" | tee "$out/kernels.txt" || return 1
  tail -n 1 "$out/kernels.txt" > "$out/kernels.json"
  report '```' "$(sed '$d' "$out/kernels.txt")" '```'
}

stage_step() {
  local batches=(8 32) graphs=("" --no-graph) status=0 precision batch graph line size=512
  local options=(--config configs/reppoints_r50_grad_libra.yaml --steps 20 --warmup 5)
  if [ "$device" = cpu ]; then
    batches=(1) graphs=("") size=64
    options=(--threads 1 --config configs/quickstart.yaml --steps 3 --warmup 1)
  fi
  : > "$out/step.jsonl"
  report "| precision | batch | graph | images/s | median ms | p90 ms | peak MiB | TFLOP/s | % of matrix rate |" \
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
  for precision in "${precisions[@]}"; do
    for batch in "${batches[@]}"; do for graph in "${graphs[@]}"; do
      # shellcheck disable=SC2086  # an empty $graph is no argument
      if ! run "$bin/benchmark" step --device "$device" --precision "$precision" --batch "$batch" --height "$size" --width "$size" \
        "${options[@]}" $graph --json | tee "$out/step.txt"; then
        status=1
        report "| $precision | $batch | | failed, see step.log | | | | | |"
        continue
      fi
      line=$(tail -n 1 "$out/step.txt")
      echo "$line" >> "$out/step.jsonl"
      report "$(printf '| %s | %s | %s | %.1f | %.2f | %.2f | %.0f | %.2f | %.1f |' "$precision" "$batch" "$(field "$line" graph)" "$(field "$line" images_per_s)" \
        "$(field "$line" ms_median)" "$(field "$line" ms_p90)" "$(field "$line" peak_memory_mb)" "$(field "$line" tflops)" \
        "$(field "$line" percent_of_matrix_rate)")"
    done; done
  done
  return "$status"
}

# A small synthetic data set, drawn once.
make_data() {
  local patches=(synthesize.train=96 synthesize.val=4 synthesize.test=48)
  if [ "$device" = cpu ]; then patches=(synthesize.train=8 synthesize.val=1 synthesize.test=4); fi
  run "$bin/synthesize" --config configs/quickstart.yaml --output "$out/cells_${patches[0]#*=}" "${patches[@]}" > /dev/null || return 1
  data=$out/cells_${patches[0]#*=}
}

stage_data() {
  make_data || return 1
  run "$bin/benchmark" data --config configs/quickstart.yaml --batches 20 --workers 1,2,4,8 --json "data.root=$data" |
    tee "$out/data.txt" || return 1
  tail -n 1 "$out/data.txt" > "$out/data.json"
  report '```' "$(sed '$d' "$out/data.txt")" '```'
  if [ "$device" = cpu ]; then return; fi
  run "$bin/benchmark" step --device "$device" --config configs/quickstart.yaml --real-data --precision bf16 --batch 32 --height 256 --width 256 \
    --steps 50 --warmup 10 --json "data.root=$data" loader.workers=8 | tee "$out/data_step.txt" || return 1
  report "" "Training steps on these images:" '```' "$(sed '$d' "$out/data_step.txt")" '```'
}

stage_pytorch() {
  if [ ! -f scripts/compare/run.sh ]; then skip "scripts/compare/run.sh is not there"; fi
  local python found="" list
  for python in python3 /usr/bin/python3; do
    if "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2> /dev/null; then found=$python; fi
  done
  if [ -z "$found" ]; then skip "PyTorch is not installed"; fi
  list=$(IFS=, && echo "${precisions[*]}")
  # Without torch.compile, which takes longer than this stage has; scripts/compare/run.sh by itself includes it.
  local options=(--rounds 2 --batch 32 --steps 20 --warmup 5 --no-compile configs/reppoints_r50_grad_libra.yaml)
  if [ "$device" = cpu ]; then options=(--rounds 1 --batch 1 --size 64 64 --steps 1 --warmup 1 configs/quickstart.yaml); fi
  run scripts/compare/run.sh --device "$device" --precision "$list" "${options[@]}" | tee "$out/pytorch.txt" || return 1
  report '```' "$(cat "$out/pytorch.txt")" '```'
}

# train FOLDER DEVICE SECONDS: ends with a checkpoint when the time is over.
train() {
  rm -rf "${out:?}/$1"
  run timeout --foreground --signal TERM --kill-after 10 "$3" "$bin/train" --config configs/quickstart.yaml --work-dir "$out/$1" --device "$2" \
    "data.root=$data" "schedule.epochs=$epochs" "schedule.steps=[$epochs]" train.log_every=50
  local status=$?
  if [ "$status" -eq 124 ]; then status=0; fi  # what it got done is compared
  return "$status"
}
losses() { sed -nE 's/^\{"step":[0-9]+,.*"loss":([^,}]+).*/\1/p' "$out/$1/log.jsonl"; }
# The mean of up to 20 losses that end at line `last`.
mean_loss() { losses "$1" | awk -v last="$2" 'NR <= last && NR > last - 20 { sum += $1; n++ } END { printf "%.6g", n ? sum / n : 0 }'; }
average_precision() {
  run "$bin/evaluate" --checkpoint "$out/$1" --device "$2" --output "$out/$1/eval" > /dev/null || return 1
  field "$(tr -d '\n ' < "$out/$1/eval/metrics.json")" mAP
}
# The bounds that two trainings of one seed must keep: their roundings differ, and training magnifies that step by step.
max_first=0.001 max_last=0.10 max_map=0.10
within() { awk -v a="$1" -v b="$2" -v most="$3" -v relative="$4" 'BEGIN { d = a - b; if (d < 0) d = -d; if (relative) d /= b; exit !(d <= most) }'; }

stage_train() {
  local epochs=17 gpu_seconds=40 cpu_seconds=30 status=0 first last fell common map_gpu map_cpu name=train_$device
  if [ "$device" = cpu ]; then epochs=2 gpu_seconds=60 cpu_seconds=1; fi
  make_data || return 1
  train "$name" "$device" "$gpu_seconds" || return 1
  last=$(losses "$name" | wc -l)
  first=$(mean_loss "$name" 20) fell=$(mean_loss "$name" "$last")
  report "$last steps on $device: mean loss of the first 20 steps $first, of the last 20 $fell."
  if [ "$last" -lt 100 ]; then
    report "Fewer than 100 steps: too few to say whether it learns." && [ "$device" = cpu ] || status=1
  elif ! awk -v a="$first" -v b="$fell" 'BEGIN { exit !(b < 0.8 * a) }'; then
    report "**The loss did not fall by a fifth.**" && status=1
  fi
  map_gpu=$(average_precision "$name" "$device" | tail -n 1)
  report "mAP@0.5 on the test split: $map_gpu" ""
  if [ "$device" = cpu ]; then return "$status"; fi

  train train_cpu cpu "$cpu_seconds" || status=1
  common=$(losses train_cpu | wc -l)
  if [ "$common" -lt 1 ]; then report "The CPU did not finish a step: nothing to compare." && return 1; fi
  local one_gpu one_cpu end_gpu end_cpu
  one_gpu=$(losses "$name" | head -n 1) one_cpu=$(losses train_cpu | head -n 1)
  end_gpu=$(mean_loss "$name" "$common") end_cpu=$(mean_loss train_cpu "$common")
  report "The same training on the CPU, $common steps:" "" "| | GPU | CPU | bound |" "| --- | --- | --- | --- |" \
    "| loss of step 1 | $one_gpu | $one_cpu | $max_first relative |" \
    "| mean loss up to step $common | $end_gpu | $end_cpu | $max_last relative |"
  within "$one_gpu" "$one_cpu" "$max_first" 1 || { status=1 && report "| **step 1 is out of bounds** | | | |"; }
  within "$end_gpu" "$end_cpu" "$max_last" 1 || { status=1 && report "| **the mean loss is out of bounds** | | | |"; }
  if [ "$common" -eq "$last" ]; then
    map_cpu=$(average_precision train_cpu cpu | tail -n 1)
    report "| mAP@0.5 | $map_gpu | $map_cpu | $max_map |"
    within "$map_gpu" "$map_cpu" "$max_map" 0 || { status=1 && report "| **mAP is out of bounds** | | | |"; }
  fi
  return "$status"
}

if [ -n "$inside" ]; then
  "stage_$inside"
  exit
fi

# --- the frame: libraries, device, verdicts, report ---

if $dry_run; then
  echo "programs: $bin"
  echo "report:   $out/report.md"
  total=0
  for s in "${chosen[@]}"; do
    printf '%-10s at most %3d s  %s\n' "$s" "${limit[$s]}" "${what[$s]}"
    total=$((total + limit[$s]))
  done
  echo "at most $total s on $device"
  exit 0
fi
if [ ! -x "$bin/benchmark" ]; then
  echo "gpu_check: no programs in $bin: unpack a bundle, run scripts/build.sh, or name the folder with --bin" >&2
  exit 1
fi
mkdir -p "$out"

# Libraries that the loader does not find by itself: of the CUDA toolkit, or of an installed PyTorch (not imported, only looked for).
missing_libraries() { ldd "$bin"/benchmark "$bin"/test_cuda 2> /dev/null | sed -nE 's/^\s*(\S+) => not found.*/\1/p' | sort -u; }
python_library_folders() {
  python3 - 2> /dev/null <<'PYTHON'
import pathlib, sys
for place in sys.path:
    for pattern in ("nvidia/*/lib", "nvidia/lib", "torch/lib"):
        for folder in sorted(pathlib.Path(place or ".").glob(pattern)):
            print(folder)
PYTHON
}
missing=$(missing_libraries)
if [ -n "$missing" ]; then
  while read -r folder; do
    for library in $missing; do
      # All such folders: cuDNN itself loads more of its parts, and cuBLAS, when it runs.
      if [ -e "$folder/$library" ]; then LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder && break; fi
    done
  done < <(ls -d /usr/local/cuda/lib64 /usr/local/cuda*/lib64 /usr/lib/x86_64-linux-gnu 2> /dev/null; python_library_folders)
  export LD_LIBRARY_PATH
fi
libraries=$(ldd "$bin"/benchmark "$bin"/test_cuda 2> /dev/null | sed -nE 's/^\s*(lib(cudnn|cublas|nccl)\S*) => (.*) \(.*/\1 from \3/p' | sort -u)
missing=$(missing_libraries)
if [ -n "$missing" ]; then
  echo "gpu_check: not found: ${missing//$'\n'/ }. Install them, or PyTorch for the same CUDA version, or name their folder in LD_LIBRARY_PATH." >&2
  exit 1
fi

echo "libraries: ${libraries:-neither cuDNN nor cuBLAS nor NCCL is needed}"

# The program itself says what is wrong with a GPU that cannot be used. Any other failure is for the stages to show.
if [ "$device" = cuda ]; then
  problem=$("$bin/benchmark" kernels --device cuda --batch 1 --size 32 --filter clip_factor --seconds 0.001 2>&1 | grep -F -- '--device cuda:' || true)
  if [ -n "$problem" ]; then
    echo "gpu_check: no usable GPU, nothing was run. $problem" >&2
    exit 77
  fi
fi

declare -A verdict took
status=0
for s in "${chosen[@]}"; do
  printf '== %s: %s\n' "$s" "${what[$s]}"
  rm -f "$out/$s.md"
  start=$SECONDS
  timeout --kill-after 5 "${limit[$s]}" "$root/scripts/gpu_check.sh" --inside "$s" --device "$device" --bin "$bin" --output "$out" > "$out/$s.log" 2>&1
  code=$?
  took[$s]=$((SECONDS - start))
  case $code in
    0) verdict[$s]=passed ;;
    77) verdict[$s]="skipped: $(tail -n 1 "$out/$s.log")" ;;
    124 | 137) verdict[$s]="ran out of its ${limit[$s]} s" ;;
    *) verdict[$s]="failed, exit status $code" ;;
  esac
  printf '   %s (%d s)\n' "${verdict[$s]}" "${took[$s]}"
  # Skipped is no failure unless it was asked for by name.
  if [ $code -ne 0 ] && { [ $code -ne 77 ] || [ ${#asked[@]} -gt 0 ]; }; then
    status=1
    if [ $code -ne 77 ]; then tail -n 5 "$out/$s.log" | sed 's/^/   /'; fi
  fi
done

{
  echo "# gradlibra on $(if [ "$device" = cuda ]; then nvidia-smi --query-gpu=name --format=csv,noheader 2> /dev/null | head -n 1 || echo "a GPU"; else echo "a CPU"; fi)"
  echo
  echo "| | |"
  echo "| --- | --- |"
  echo "| date | $(date -u '+%Y-%m-%d %H:%M UTC') |"
  echo "| program | $("$bin/benchmark" --version) |"
  if [ "$device" = cuda ]; then
    echo "| GPU, driver, memory | $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null | head -n 1) |"
  fi
  echo "| CPU | $(sed -nE '0,/^model name/s/^model name\s*: (.*)/\1/p' /proc/cpuinfo), $(nproc) processors |"
  echo "| system | $(sed -nE 's/^PRETTY_NAME="(.*)"/\1/p' /etc/os-release 2> /dev/null), Linux $(uname -r) |"
  while read -r line; do if [ -n "$line" ]; then echo "| library | $line |"; fi; done <<< "$libraries"
  printf '\n| stage | verdict | seconds | |\n| --- | --- | --- | --- |\n'
  for s in "${chosen[@]}"; do echo "| $s | ${verdict[$s]} | ${took[$s]} | ${what[$s]} |"; done
  for s in "${chosen[@]}"; do
    printf '\n## %s\n\n' "$s"
    if [ -f "$out/$s.md" ]; then cat "$out/$s.md"; fi
    if [ "${verdict[$s]}" != passed ]; then
      printf '\n%s. The end of %s.log:\n\n```\n' "${verdict[$s]}" "$s"
      tail -n 15 "$out/$s.log"
      echo '```'
    fi
  done
} > "$out/report.md"
echo "report: $out/report.md"
exit "$status"
