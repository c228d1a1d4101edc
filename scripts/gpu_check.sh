#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Does everything work on this GPU, and how fast? Tests, sanitizer, benchmarks, a comparison with PyTorch, a short training; one report.
set -uo pipefail

stages=(tests sanitizer kernels step data pytorch train)
more_stages=(compiled profile)  # only where they are asked for
# Seconds: 530 in total for the first ones.
declare -A limit=([tests]=90 [sanitizer]=70 [kernels]=80 [step]=70 [data]=25 [pytorch]=90 [train]=105 [compiled]=400 [profile]=120)
declare -A what=(
  [tests]="device tests: every kernel against its host version"
  [sanitizer]="compute-sanitizer: memory errors in all device tests, races in those with shared memory"
  [kernels]="benchmark kernels: share of the device's best rates"
  [step]="benchmark step: training steps a second, by precision, batch, graph and levels in parallel"
  [data]="benchmark data: images a second from files and from the cache"
  [pytorch]="the same training step in PyTorch (scripts/compare)"
  [train]="a short training on the GPU in each precision, and the same on the CPU as far as it gets"
  [compiled]="the comparison with PyTorch, torch.compile included, which takes minutes to compile"
  [profile]="where a step's time goes, kernel by kernel, as Nsight Systems sees it")

# What training steps are measured in, here and in PyTorch.
precisions=(bf16 tf32 fp32)

usage() {
  cat <<TEXT
usage: scripts/gpu_check.sh [--stage NAME]... [--device cuda|cpu] [--bin DIR] [--output DIR] [--dry-run]
  --stage NAME   only this stage; may be given several times. Without it all of these, in less than nine minutes:
$(for s in "${stages[@]}"; do printf '                   %-10s at most %3d s  %s\n' "$s" "${limit[$s]}" "${what[$s]}"; done)
                 and these if they are asked for:
$(for s in "${more_stages[@]}"; do printf '                   %-10s at most %3d s  %s\n' "$s" "${limit[$s]}" "${what[$s]}"; done)
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
  if [ -z "${limit[$s]:-}" ]; then echo "gpu_check: no stage '$s'; there are ${stages[*]} ${more_stages[*]}" >&2 && exit 2; fi
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
  local binaries=(test_cuda test_cudnn test_training)  # what a GPU has no part in is for ctest
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
    if [[ $binary =~ ^test_(cuda|training)$ ]] && [ "${skipped:-0}" -gt 0 ]; then status=1; fi
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
  local list status=0
  list=$(IFS=, && echo "${precisions[*]}")
  local all=(--config configs/reppoints_r50_grad_libra.yaml --height 512 --width 512 --steps 15 --warmup 5)
  local levels=("${all[@]}" --precision bf16 --batch 8,32 --parallel-levels on,off)
  all+=(--precision "$list" --batch 8,32 --graph on,off)
  if [ "$device" = cpu ]; then
    all=(--config configs/quickstart.yaml --height 64 --width 64 --steps 3 --warmup 1 --threads 1 --precision fp32 --batch 1,2)
    levels=()
  fi
  run "$bin/benchmark" step --device "$device" "${all[@]}" --json | tee "$out/step.txt" || status=1
  tail -n 1 "$out/step.txt" > "$out/step.json"
  report '```' "$(sed '$d' "$out/step.txt")" '```'
  if [ ${#levels[@]} -eq 0 ]; then return "$status"; fi
  run "$bin/benchmark" step --device "$device" "${levels[@]}" --json | tee "$out/levels.txt" || status=1
  report "" "Levels of the pyramid side by side, and in turn:" '```' "$(sed '$d' "$out/levels.txt")" '```'
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

# compare OPTION..: into the report what scripts/compare/run.sh prints.
compare() {
  if [ ! -f scripts/compare/run.sh ]; then skip "scripts/compare/run.sh is not there"; fi
  local python found=""
  for python in python3 /usr/bin/python3; do
    if "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2> /dev/null; then found=$python; fi
  done
  if [ -z "$found" ]; then skip "PyTorch is not installed"; fi
  run scripts/compare/run.sh --device "$device" "$@" | tee "$out/$inside.txt" || return 1
  report '```' "$(cat "$out/$inside.txt")" '```'
}

stage_pytorch() {
  local list
  list=$(IFS=, && echo "${precisions[*]}")
  # Without torch.compile, which takes longer than this stage has: that is stage `compiled`.
  local options=(--rounds 2 --batch 32 --steps 20 --warmup 5 --no-compile configs/reppoints_r50_grad_libra.yaml)
  if [ "$device" = cpu ]; then options=(--rounds 1 --batch 1 --size 64 64 --steps 1 --warmup 1 configs/quickstart.yaml); fi
  compare --precision "$list" "${options[@]}"
}

stage_compiled() {
  if [ "$device" = cpu ]; then skip "needs a GPU"; fi
  compare --precision bf16 --rounds 1 --batch 32 --steps 20 --warmup 10 --no-check configs/reppoints_r50_grad_libra.yaml
}

stage_profile() {
  if [ "$device" = cpu ]; then skip "needs a GPU"; fi
  command -v nsys > /dev/null || skip "nsys is not installed (NVIDIA Nsight Systems)"
  rm -f "$out/step.nsys-rep"
  run nsys profile --force-overwrite true --capture-range cudaProfilerApi --capture-range-end stop --cuda-graph-trace node --trace cuda,nvtx --output "$out/step" \
    "$bin/benchmark" step --device cuda --config configs/reppoints_r50_grad_libra.yaml --precision bf16 --batch 8 --steps 5 --warmup 5
  [ -f "$out/step.nsys-rep" ] || return 1
  run nsys stats --report cuda_gpu_kern_sum --format column --force-export true "$out/step.nsys-rep" | tee "$out/profile.txt" || return 1
  report "Kernels of five steps, batch 8, bf16 (out/gpu_check/step.nsys-rep has the time line):" '```' "$(head -n 45 "$out/profile.txt" | cut -c 1-160)" '```'
}

# train FOLDER DEVICE PRECISION SECONDS: ends with a checkpoint when the time is over.
train() {
  rm -rf "${out:?}/$1"
  run timeout --foreground --signal TERM --kill-after 10 "$4" "$bin/train" --config configs/quickstart.yaml --work-dir "$out/$1" --device "$2" \
    "runtime.precision=$3" "data.root=$data" "schedule.epochs=$epochs" "schedule.steps=[$epochs]" train.log_every=50
  local status=$?
  if [ "$status" -eq 124 ]; then status=0; fi  # what it got done is compared
  return "$status"
}
losses() { sed -nE 's/^\{"step":[0-9]+,.*"loss":([^,}]+).*/\1/p' "$out/$1/log.jsonl"; }
steps() { losses "$1" | wc -l; }
# The mean of up to 20 losses that end at line `last`.
mean_loss() { losses "$1" | awk -v last="$2" 'NR <= last && NR > last - 20 { sum += $1; n++ } END { printf "%.6g", n ? sum / n : 0 }'; }
average_precision() {
  run "$bin/evaluate" --checkpoint "$out/$1" --device "$2" --output "$out/$1/eval" > /dev/null || return 1
  field "$(tr -d '\n ' < "$out/$1/eval/metrics.json")" mAP
}

# Two trainings of one seed: their roundings differ, and training magnifies that step by step. Bounds: of the first loss by precision, of
# the mean loss of 20 steps, both relative, and of mAP.
declare -A max_first=([fp32]=0.001 [tf32]=0.01 [bf16]=0.03)
max_last=0.10 max_map=0.10
within() { awk -v a="$1" -v b="$2" -v most="$3" -v relative="$4" 'BEGIN { d = a - b; if (d < 0) d = -d; if (relative) d /= b; exit !(d <= most) }'; }

# agree FOLDER DEVICE PRECISION WANTED-FOLDER WANTED-DEVICE: a table of what the two have in common.
agree() {
  local status=0 first wanted_first mean wanted_mean common map wanted_map
  common=$(steps "$1")
  if [ "$(steps "$4")" -lt "$common" ]; then common=$(steps "$4"); fi
  if [ "$common" -lt 1 ]; then report "$1 and $4 have no step in common: nothing to compare." "" && return 1; fi
  first=$(losses "$1" | head -n 1) wanted_first=$(losses "$4" | head -n 1)
  mean=$(mean_loss "$1" "$common") wanted_mean=$(mean_loss "$4" "$common")
  report "| $common steps | $1 | $4 | bound |" "| --- | --- | --- | --- |" \
    "| loss of step 1 | $first | $wanted_first | ${max_first[$3]} relative |" \
    "| mean loss up to step $common | $mean | $wanted_mean | $max_last relative |"
  within "$first" "$wanted_first" "${max_first[$3]}" 1 || { status=1 && report "| **step 1 is out of bounds** | | | |"; }
  within "$mean" "$wanted_mean" "$max_last" 1 || { status=1 && report "| **the mean loss is out of bounds** | | | |"; }
  if [ "$(steps "$1")" -eq "$(steps "$4")" ]; then
    map=$(average_precision "$1" "$2" | tail -n 1) wanted_map=$(average_precision "$4" "$5" | tail -n 1)
    report "| mAP@0.5 on the test split | $map | $wanted_map | $max_map |"
    within "${map:-9}" "${wanted_map:-0}" "$max_map" 0 || { status=1 && report "| **mAP is out of bounds** | | | |"; }
  fi
  report ""
  return "$status"
}

stage_train() {
  local epochs=17 gpu_seconds=20 cpu_seconds=20 status=0 first last fell precision name=train_$device
  if [ "$device" = cpu ]; then epochs=2 gpu_seconds=30; fi
  make_data || return 1
  train "$name" "$device" fp32 "$gpu_seconds" || return 1
  last=$(steps "$name")
  first=$(mean_loss "$name" 20) fell=$(mean_loss "$name" "$last")
  report "$last steps on $device: mean loss of the first 20 steps $first, of the last 20 $fell." ""
  if [ "$last" -lt 100 ]; then
    report "Fewer than 100 steps: too few to say whether it learns." "" && [ "$device" = cpu ] || status=1
  elif ! awk -v a="$first" -v b="$fell" 'BEGIN { exit !(b < 0.8 * a) }'; then
    report "**The loss did not fall by a fifth.**" "" && status=1
  fi
  for precision in tf32 bf16; do
    train "${name}_$precision" "$device" "$precision" "$gpu_seconds" || { status=1 && continue; }
    agree "${name}_$precision" "$device" "$precision" "$name" "$device" || status=1
  done
  if [ "$device" = cpu ]; then return "$status"; fi
  train train_cpu cpu fp32 "$cpu_seconds" || status=1
  agree "$name" "$device" fp32 train_cpu cpu || status=1
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

# The program itself says that there is no driver or no GPU. Whatever else is wrong is for the stages to show.
if [ "$device" = cuda ]; then
  problem=$("$bin/benchmark" kernels --device cuda --batch 1 --size 32 --filter clip_factor --seconds 0.001 2>&1 | grep -F -- 'no usable GPU:' || true)
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
