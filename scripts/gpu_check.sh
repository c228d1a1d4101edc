#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Does everything work on this GPU, and how fast? Tests, sanitizer, benchmarks, PyTorch beside them, a short training;
# in nine minutes.
set -uo pipefail

# In this order. `together` means at the same time as its neighbours: nothing is timed there. The seconds are each
# stage's limit.
stages=(smoke tests network memcheck racecheck train warm step pytorch again kernels ncu)
more_stages=(failed eager serial tuned batches turns ranks)  # what a second run does with --after; `ranks` by name alone
declare -A limit=([smoke]=60 [tests]=125 [network]=125 [memcheck]=125 [racecheck]=125 [train]=125 [warm]=125 [step]=100 [pytorch]=130
  [again]=15 [kernels]=90 [ncu]=80 [failed]=80 [eager]=40 [serial]=40 [tuned]=70 [batches]=40 [turns]=60 [ranks]=240)
together=" tests network memcheck racecheck train warm "
declare -A what=(
  [smoke]="a few recorded steps; if they fail, the same with less, to see what it is"
  [tests]="every kernel against its host version, a process for each suite"
  [network]="training steps on the device against the host, cuDNN and cuBLASLt against plain loops"
  [memcheck]="compute-sanitizer: memory errors in all kernel tests"
  [racecheck]="compute-sanitizer: races and barriers in kernels whose threads share memory"
  [train]="short trainings in each precision, and on the CPU as far as it gets"
  [warm]="PyTorch compiles what is timed later"
  [step]="benchmark step: training steps, by precision, batch and graph"
  [pytorch]="the same steps in PyTorch, eager and compiled"
  [again]="our step once more: how far the machine drifts"
  [kernels]="benchmark kernels: share of the device's best rates"
  [ncu]="Nsight Compute: where a step's time and traffic go, kernel by kernel"
  [failed]="the tests that failed, alone, under the sanitizer, every launch waited for"
  [eager]="the step without a graph"
  [serial]="the step with levels in turn"
  [tuned]="convolutions chosen by timing them"
  [batches]="other batches; levels in parallel and in turn"
  [turns]="our step and PyTorch's in turn: how far the ratio drifts"
  [ranks]="four ranks on one GPU over NCCL against one process with the whole batch")

usage() {
  cat <<TEXT
usage: scripts/gpu_check.sh [--stage NAME]... [--after REPORT] [--device cuda|cpu] [--seconds N] [--bin DIR] [--output DIR] [--dry-run]
  --stage NAME     only this stage; may be given several times
  --after REPORT   a second run: after a report with failures the stages that find their cause, else further figures
  --device cpu     smallest sizes on the CPU: tries this script and its stages where there is no GPU
  --seconds N      for all of it (default 540): what would run longer is cut short, what has no time left is skipped
  --bin DIR        programs and tests; default: bin/ of a bundle (scripts/bundle.sh), else build/release/bin/
  --output DIR     default out/gpu_check beside scripts/: report.md, and logs.tar.gz with what every stage printed
  --dry-run        prints what would run
Stages (those marked + run at the same time):
$(for s in "${stages[@]}" "${more_stages[@]}"; do
    printf '  %s %-10s at most %3d s  %s\n' "$([[ $together == *" $s "* ]] && echo + || echo ' ')" "$s" "${limit[$s]}" "${what[$s]}"
  done)
A stage that fails, hangs or lacks its tool does not stop the others. Exit status: 0 no stage failed, 1 one did, 2 wrong use, 77 there is
no usable GPU and nothing was run.
TEXT
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
device=cuda bin="" out=$root/out/gpu_check dry_run=false inside="" work="" after="" seconds=540 chosen=()
while [ $# -gt 0 ]; do
  case "$1" in
    --stage) chosen+=("${2:?--stage needs a name}") && shift 2 ;;
    --after) after=${2:?--after needs the report of a run} && shift 2 ;;
    --device) device=${2:?--device needs cuda or cpu} && shift 2 ;;
    --seconds) seconds=${2:?--seconds needs a number} && shift 2 ;;
    --bin) bin=${2:?--bin needs a folder} && shift 2 ;;
    --output) out=${2:?--output needs a folder} && shift 2 ;;
    --dry-run) dry_run=true && shift ;;
    --inside) inside=${2:?} work=${3:?} && shift 3 ;;  # how this script runs a stage of its own under `timeout`
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done
if [ "$device" != cuda ] && [ "$device" != cpu ]; then usage >&2 && exit 2; fi
for s in ${chosen[@]+"${chosen[@]}"}; do
  if [ -z "${limit[$s]:-}" ]; then echo "gpu_check: no stage '$s'; there are ${stages[*]} ${more_stages[*]}" >&2 && exit 2; fi
done
if [ -n "$after" ] && [ ! -r "$after" ]; then echo "gpu_check: --after $after: not a readable file" >&2 && exit 2; fi
out=$(realpath -m "$out")
if [ -n "$after" ]; then after=$(realpath "$after"); fi
if [ -n "$bin" ]; then bin=$(realpath -m "$bin"); elif [ -x "$root/bin/train" ]; then bin=$root/bin; else bin=$root/build/release/bin; fi
cd "$root" || exit 1

# --- stages. Each writes to its log (stdout and stderr), to STAGE.md what is to stand in the report, to STAGE.jsonl
# measured steps, to STAGE.failed the names of tests. Status 77: skipped, the reason on the last line. ---

figure() { printf '%s\n' "$*" | tee -a "$work/$inside.md"; }
skip() { echo "$1" && exit 77; }
run() {
  printf '+ %s\n' "$*" >&2
  "$@"
}
# The value of a field in a line of JSON without nested objects.
field() { sed -nE "s/.*\"$2\": ?\"?([^,\"}]*)[\",}].*/\1/p" <<< "$1" | head -n 1; }

# The network and sizes of all that is timed. Zeros in the last norms would flatter the card's clock and power.
model=(train.pretrained= model.backbone.zero_init_residual=false)
if [ "$device" = cpu ]; then # which may have other work
  for s in "${!limit[@]}"; do limit[$s]=$((4 * limit[$s])); done
  config=configs/quickstart.yaml size=64 batch=2 small=1 steps=2 warmup=1 precisions=(fp32) threads=(--threads 1)
else
  config=configs/reppoints_r50_grad_libra.yaml size=512 batch=32 small=8 steps=20 warmup=6 precisions=(bf16 tf32 fp32) threads=()
fi

# step OPTION..: `benchmark step`, its table into the report, its rows into STAGE.jsonl.
step() {
  local status=0 name=$inside.$RANDOM
  run "$bin/benchmark" step --device "$device" ${threads[@]+"${threads[@]}"} --config "$config" --height "$size" --width "$size" --steps "$steps" \
    --warmup "$warmup" --json "$@" "${model[@]}" | tee "$work/$name.txt" || status=1
  figure '```'
  figure "$(grep -v '^{' "$work/$name.txt")"
  figure '```'
  grep '^{' "$work/$name.txt" | sed 's/{"what":"step",/\n&/g' | grep -F '"what":"step",' >> "$work/$inside.jsonl"
  return "$status"
}

stage_smoke() {
  local base=(--precision bf16 --batch 2)
  if [ "$device" = cpu ]; then base=(--precision fp32 --batch 1); fi
  nvidia-smi 2> /dev/null
  steps=4
  step "${base[@]}" && return 0
  figure "The recorded step in bf16 **failed**. With less:"
  step "${base[@]}" --graph off && figure "- without a graph: works"
  step "${base[@]}" --parallel-levels off && figure "- levels in turn: works"
  step --precision fp32 --batch 2 && figure "- fp32: works"
  step --precision fp32 --batch 2 --graph off --parallel-levels off && figure "- fp32, no graph, levels in turn: works"
  return 1
}

suites_of() { "$bin/$1" --gtest_list_tests | grep -v '^ ' | grep -oE '^[A-Za-z0-9_/]+\.'; }

# suite BINARY FILTER [TOOL..]: one process; a line about it, and the names of tests that failed.
suite() {
  local binary=$1 filter=$2 log status
  shift 2
  log=$work/$inside.${tool:+$tool.}$(tr -c 'A-Za-z0-9\n' _ <<< "$binary.$filter").log
  timeout --kill-after 5 "${suite_limit:-110}" "$@" "$bin/$binary" --gtest_filter="$filter" > "$log" 2>&1
  status=$?
  local passed skipped
  passed=$(sed -nE 's/^\[ *PASSED *\] ([0-9]+) tests?.*/\1/p' "$log") skipped=$(sed -nE 's/^\[ *SKIPPED *\] ([0-9]+) tests?.*/\1/p' "$log")
  sed -nE "s/^\[ *FAILED *\] ([A-Za-z0-9_\/]+\.[A-Za-z0-9_\/]+).*/$binary \1/p" "$log" | sort -u >> "$work/$inside.failed"
  if [ "$status" -ne 0 ] && ! grep -q '^\[ *FAILED' "$log"; then  # it died: the test that had begun
    sed -nE "s/^\[ *RUN *\] (.*)/$binary \1/p" "$log" | tail -n 1 >> "$work/$inside.failed"
  fi
  printf '%s %s: %s passed, %s skipped, exit status %d\n' "$binary" "$filter" "${passed:-0}" "${skipped:-0}" "$status"
  if [ "$status" -ne 0 ]; then
    grep -E 'Failure|got |Error|error|terminate|what\(\)|FAILED|Invalid|hazard|at .*\+0x' "$log" | head -n 12 | cut -c 1-400
  fi
  # A device test that was skipped, or none that passed, proves nothing.
  if [ "$status" -eq 0 ] && [ "$device" = cuda ] && { [ "${passed:-0}" -eq 0 ] || [ "${skipped:-0}" -gt 0 ]; }; then status=3; fi
  return "$status"
}

# many JOBS < lines "BINARY FILTER": suites at the same time; true if all passed.
many() {
  local jobs=$1 line result=$work/$inside.results
  shift
  : > "$result"
  while read -r line; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do sleep 0.1; done
    # shellcheck disable=SC2086
    { text=$(suite $line "$@"); status=$?; printf '%s\n' "$text"; echo "$status" >> "$result"; } &
  done
  wait
  figure "${tool:+$tool: }$(wc -l < "$result") processes, $(grep -vxc 0 "$result") of them not in order"
  ! grep -qvx 0 "$result"
}

stage_tests() {
  if [ "$device" = cpu ]; then many 1 <<< 'test_runtime Tensor*'; return; fi
  suites_of test_cuda | sed 's/^/test_cuda /; s/$/*/' | many 6
}

stage_network() {
  if [ "$device" = cpu ]; then many 1 <<< 'test_runtime Tape*'; return; fi
  {
    echo 'test_training TrainStepOnDevice.*:Branches.*'
    echo 'test_training Losses/*'
    for p in fp32 bf16; do echo "test_training *TrainStepOnDevice.*/$p"; done
    for p in fp32 tf32 bf16; do echo "test_cudnn *CudnnConvolutionTest.*/$p*:*CudnnStep.*/$p*"; done
  } | many 4
}

# Sets `sanitizer`, or `why` there is none. Some sandboxes refuse it: then it is no error of ours.
find_sanitizer() {
  local log=$work/$inside.probe refused='not supported|unable to|internal error'
  sanitizer="" why="needs a GPU"
  if [ "$device" = cpu ]; then return; fi
  why="compute-sanitizer is not installed (part of the CUDA toolkit)"
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null) || return
  if ! timeout 60 "$sanitizer" --tool memcheck --error-exitcode 9 "$bin/test_cuda" --gtest_filter=ScalarCuda.* > "$log" 2>&1 &&
    grep -qiE "$refused" "$log" && ! grep -q 'Invalid __' "$log"; then
    sanitizer="" why="compute-sanitizer is not possible here: $(grep -iE "$refused" "$log" | head -n 1)"
  fi
}

stage_memcheck() {
  find_sanitizer
  if [ -z "$sanitizer" ]; then skip "$why"; fi
  suites_of test_cuda | sed 's/^/test_cuda /; s/$/*/' | many 4 "$sanitizer" --tool memcheck --leak-check no --error-exitcode 9
}

stage_racecheck() {
  find_sanitizer
  if [ -z "$sanitizer" ]; then skip "$why"; fi
  local tool suites=(ReduceCuda BatchNormCuda BatchNormFoldCuda GroupNormCuda NmsCuda SigmoidLossCuda SmoothL1Cuda DeformIm2ColCuda
    DeformConv2dCuda TensorCoreCuda SortScoresCuda AssignCuda AtssAssignCuda UniformAssignCuda SelectCandidatesCuda PointsToBoxesCuda
    Conv2dCuda ScaledActivationCuda BagsCuda BagsSampleCuda BinaryCrossEntropyCuda CenternessCuda ClassGradientsCuda CountLabelsCuda EqlV2Cuda
    IouLossCuda SeesawCuda) status=0
  suite_limit=100
  for tool in racecheck synccheck; do
    printf 'test_cuda %s.*\n' "${suites[@]}" | many 8 "$sanitizer" --tool "$tool" --error-exitcode 9 || status=1
  done
  return "$status"
}

# train FOLDER DEVICE PRECISION SECONDS: ends with a checkpoint when the time is over.
train() {
  run timeout --foreground --signal TERM --kill-after 10 "$4" "$bin/train" --config configs/quickstart.yaml --work-dir "$work/$1" --device "$2" \
    "runtime.precision=$3" "data.root=$data" data.missing_class=allow "schedule.epochs=$epochs" "schedule.steps=[$epochs]" train.log_every=50 train.evaluate_every=0 > "$work/$1.log" 2>&1
  local status=$?
  if [ "$status" -eq 124 ]; then return 0; fi  # what it got done is compared
  if [ "$status" -ne 0 ]; then tail -n 5 "$work/$1.log"; fi
  return "$status"
}
losses() { sed -nE 's/^\{"step":[0-9]+,.*"loss":([^,}]+).*/\1/p' "$work/$1/log.jsonl"; }
steps_of() { losses "$1" | wc -l; }
# The mean of up to 100 losses that end at line `last`: those of fewer jump about more than trainings differ.
mean_loss() { losses "$1" | awk -v last="$2" 'NR <= last && NR > last - 100 { sum += $1; n++ } END { printf "%.6g", n ? sum / n : 0 }'; }
average_precision() {
  run "$bin/evaluate" --checkpoint "$work/$1" --device "$2" --output "$work/$1/eval" > /dev/null || return 1
  field "$(tr -d '\n ' < "$work/$1/eval/metrics.json")" mAP
}

# Two trainings of one seed: their roundings differ, and training magnifies that step by step. Bounds: of the first loss
# by precision, of the mean loss of 100 steps, both relative, and of mAP.
declare -A max_first=([fp32]=0.001 [tf32]=0.01 [bf16]=0.03)
max_last=0.10 max_map=0.10
within() { awk -v a="$1" -v b="$2" -v most="$3" -v relative="$4" 'BEGIN { d = a - b; if (d < 0) d = -d; if (relative) d /= b; exit !(d <= most) }'; }

# agree FOLDER DEVICE PRECISION WANTED-FOLDER WANTED-DEVICE: a table of what the two have in common.
agree() {
  local status=0 first wanted_first mean wanted_mean common map wanted_map
  common=$(steps_of "$1")
  if [ "$(steps_of "$4")" -lt "$common" ]; then common=$(steps_of "$4"); fi
  if [ "$common" -lt 1 ]; then figure "$1 and $4 have no step in common: nothing to compare." && return 1; fi
  first=$(losses "$1" | head -n 1) wanted_first=$(losses "$4" | head -n 1)
  mean=$(mean_loss "$1" "$common") wanted_mean=$(mean_loss "$4" "$common")
  figure ""
  figure "| $common steps | $1 | $4 | bound |"
  figure "| --- | --- | --- | --- |"
  figure "| loss of step 1 | $first | $wanted_first | ${max_first[$3]} relative |"
  figure "| mean loss up to step $common | $mean | $wanted_mean | $max_last relative |"
  within "$first" "$wanted_first" "${max_first[$3]}" 1 || { status=1 && figure "| **step 1 is out of bounds** | | | |"; }
  within "$mean" "$wanted_mean" "$max_last" 1 || { status=1 && figure "| **the mean loss is out of bounds** | | | |"; }
  if [ "$(steps_of "$1")" -eq "$(steps_of "$4")" ]; then
    map=$(average_precision "$1" "$2" | tail -n 1) wanted_map=$(average_precision "$4" "$5" | tail -n 1)
    figure "| mAP@0.5 on the test split | $map | $wanted_map | $max_map |"
    within "${map:-9}" "${wanted_map:-0}" "$max_map" 0 || { status=1 && figure "| **mAP is out of bounds** | | | |"; }
  fi
  return "$status"
}

stage_train() {
  local epochs=34 each=25 on_cpu=70 status=0 precision first last patches=(synthesize.train=96 synthesize.val=4 synthesize.test=48)
  if [ "$device" = cpu ]; then epochs=1 each=20 patches=(synthesize.train=8 synthesize.val=1 synthesize.test=4); fi
  data=$work/cells
  run "$bin/synthesize" --config configs/quickstart.yaml --output "$data" "${patches[@]}" > /dev/null || return 1
  if [ "$device" = cuda ]; then train cpu cpu fp32 "$on_cpu" & fi
  train "$device.fp32" "$device" fp32 "$each" || return 1
  last=$(steps_of "$device.fp32") first=$(mean_loss "$device.fp32" 100)
  figure "$last steps on $device: mean loss of the first 100 steps $first, of the last 100 $(mean_loss "$device.fp32" "$last")."
  if [ "$last" -lt 200 ]; then
    figure "Fewer than 200 steps: too few to say whether it learns." && [ "$device" = cpu ] || status=1
  elif ! awk -v a="$first" -v b="$(mean_loss "$device.fp32" "$last")" 'BEGIN { exit !(b < 0.8 * a) }'; then
    figure "**The loss did not fall by a fifth.**" && status=1
  fi
  for precision in tf32 bf16; do
    if [ "$device" = cpu ] && [ "$precision" = tf32 ]; then continue; fi
    train "$device.$precision" "$device" "$precision" "$each" || { status=1 && continue; }
    agree "$device.$precision" "$device" "$precision" "$device.fp32" "$device" || status=1
  done
  if [ "$device" = cpu ]; then return "$status"; fi
  wait
  agree cuda.fp32 cuda fp32 cpu cpu || status=1
  return "$status"
}

find_pytorch() {
  if [ ! -f scripts/compare/pytorch_reppoints.py ]; then skip "scripts/compare is not there"; fi
  for python in python3 /usr/bin/python3; do
    if "$python" -c 'import torch, numpy, yaml' 2> /dev/null; then break; fi
    python=""
  done
  if [ -z "$python" ]; then skip "PyTorch is not installed"; fi
  run "$bin/inspect" config --config "$config" "${model[@]}" > "$work/$inside.yaml" || exit 1
  export TORCHINDUCTOR_CACHE_DIR=$work/inductor PYTHONUNBUFFERED=1
}
# pytorch OPTION..: lines of JSON as they come.
pytorch() {
  run "$python" scripts/compare/pytorch_reppoints.py bench --config "$work/$inside.yaml" --device "$device" --size "$size" "$size" "$@" |
    tee -a "$work/$inside.jsonl"
}

stage_warm() {
  if [ "$device" = cpu ]; then skip "needs a GPU"; fi
  find_pytorch
  pytorch --batch "$batch,$small" --precision bf16 --compile on --steps 1 --warmup 1 --time-deform
}

stage_pytorch() {
  find_pytorch
  local list status=0
  list=$(IFS=, && echo "${precisions[*]}")
  if [ "$device" = cpu ]; then
    pytorch --batch 1 --precision fp32 --steps 1 --warmup 1 --time-deform --threads 1 || status=1
  else
    # bf16 first: what has no time left is missed least.
    pytorch --batch "$batch,$small" --precision bf16 --compile off --steps 15 --warmup 5 --time-deform || status=1
    pytorch --batch "$batch,$small" --precision bf16 --compile on --steps 15 --warmup 5 --time-deform || status=1
    pytorch --batch "$batch" --precision "${list#bf16,}" --compile off --steps 8 --warmup 3 --time-deform || status=1
  fi
  return "$status"
}

stage_step() {
  local p status=0
  if [ "$device" = cpu ]; then step --precision fp32 --batch 1,2; return; fi
  for p in bf16 tf32; do step --precision "$p" --batch "$batch,$small" --graph on,off || status=1; done
  step --precision bf16 --batch "$batch,$small" --parallel-levels off || status=1
  steps=5  # without tensor cores a step takes many times as long
  step --precision fp32 --batch "$small" --graph on,off || status=1
  return "$status"
}

stage_again() { step --precision "${precisions[0]}" --batch "$batch"; }

stage_kernels() {
  local options=(--seconds 0.02 --batch "$batch")
  if [ "$device" = cpu ]; then options=(--threads 1 --seconds 0.001 --batch 1 --size 64 --filter smooth_l1); fi
  local status=0
  figure '```'  # what was measured when the time is over is in the report
  run "$bin/benchmark" kernels --device "$device" "${options[@]}" | tee -a "$work/$inside.md" || status=1
  figure '```'
  return "$status"
}

# Times and traffic of every kernel of two steps, without a graph, summed by name.
stage_ncu() {
  if [ "$device" = cpu ]; then skip "needs a GPU"; fi
  local ncu
  ncu=$(command -v ncu || ls /usr/local/cuda/bin/ncu /opt/nvidia/nsight-compute/*/ncu 2> /dev/null | head -n 1)
  if [ -z "$ncu" ]; then skip "ncu is not installed (NVIDIA Nsight Compute)"; fi
  run "$ncu" --clock-control none --cache-control none --profile-from-start off --metrics gpu__time_duration.sum,dram__bytes.sum --csv --print-units base \
    --log-file "$work/ncu.csv" "$bin/benchmark" step --device cuda --config "$config" --precision bf16 --batch "$batch" --graph off \
    --steps 1 --warmup 5 "${model[@]}" || { tail -n 5 "$work/ncu.csv" && return 1; }
  figure "Two steps, bf16, batch $batch, no graph (caches warm, clocks as they were):"
  figure '```'
  figure "$(awk -F '","' '
    /^"ID"/ { for (i = 1; i <= NF; ++i) { gsub(/"/, "", $i); column[$i] = i } next }
    column["Kernel Name"] && /^"[0-9]/ {
      name = $column["Kernel Name"]; metric = $column["Metric Name"]; value = $column["Metric Value"]; gsub(/[",]/, "", value)
      if (metric ~ /time/) { ns[name] += value; calls[name]++; total += value } else { bytes[name] += value; all += value }
    }
    END {
      printf "%9.3f ms %9.1f GB  all kernels\n", total / 1e6, all / 1e9
      for (n in ns) printf "%9.3f ms %5.1f %% %6d calls %8.2f GB %7.0f GB/s  %s\n", ns[n] / 1e6, 100 * ns[n] / total, calls[n], bytes[n] / 1e9, bytes[n] / ns[n], substr(n, 1, 110)
    }' "$work/ncu.csv" | sort -rn | head -n 70)"
  figure '```'
  gzip -f "$work/ncu.csv"
}

# --- of a second run ---

stage_failed() {
  local lines
  lines=$(sed -nE 's/^failed: (.*)/\1/p' "$after" | sort -u | head -n 12)
  if [ -z "$lines" ]; then skip "no test failed"; fi
  find_sanitizer
  export CUDA_LAUNCH_BLOCKING=1
  if [ -n "$sanitizer" ]; then many 3 "$sanitizer" --tool memcheck --leak-check no --error-exitcode 9 <<< "$lines"; else many 1 <<< "$lines"; fi
  local status=$? log
  for log in "$work/$inside".test*.log; do
    figure '```'
    figure "$(grep -vE '^\[ *(OK|RUN|-+)' "$log" | cut -c 1-300 | head -n 40)"
    figure '```'
  done
  return "$status"
}
stage_eager() { step --precision "${precisions[0]}" --batch "$small" --graph off; }
stage_serial() { step --precision "${precisions[0]}" --batch "$small" --parallel-levels off; }
stage_tuned() { step --precision "${precisions[0]}" --batch "$batch,$small" runtime.conv_tuning=timed; }
stage_batches() {
  if [ "$device" = cpu ]; then step --precision fp32 --batch 1; return; fi
  step --precision bf16 --batch 64,16,1 && step --precision bf16 --batch "$batch,$small" --parallel-levels on,off
}
stage_turns() {
  find_pytorch
  local status=0
  for _ in 1 2; do
    step --precision "${precisions[0]}" --batch "$batch" || status=1
    pytorch --batch "$batch" --precision "${precisions[0]}" --compile off --steps "$steps" --warmup 3 || status=1
    if [ "$device" = cpu ]; then break; fi
  done
  return "$status"
}

# What several ranks come to must not depend on their number. NCCL refuses two ranks of a host on one GPU, so each is a
# host of its own to it (--share-gpus sets NCCL_HOSTID), and they talk over sockets: correctness, no speed.
stage_ranks() {
  local ranks=4 images=64 side=256 status=0 name worst
  if [ "$device" = cpu ]; then
    command -v mpirun > /dev/null || skip "needs mpirun (openmpi-bin)"
    ranks=2 images=12 side=64
  fi
  export NCCL_SOCKET_IFNAME=lo NCCL_P2P_DISABLE=1 NCCL_SHM_DISABLE=1 NCCL_DEBUG=WARN
  data=$work/cells.ranks
  run "$bin/synthesize" --config configs/quickstart.yaml --output "$data" "synthesize.train=$images" synthesize.val=1 synthesize.test=1 > /dev/null || return 1
  # one NAME OPTION..: a training of some steps, its losses one a line in NAME.losses.
  one() {
    local name=$1
    shift
    run timeout --kill-after 5 60 "$bin/train" --config configs/quickstart.yaml --work-dir "$work/ranks.$name" --device "$device" --threads 1 \
      "data.root=$data" data.missing_class=allow "loader.height=$side" "loader.width=$side" loader.resize=fit runtime.precision=fp32 model.backbone.norm_eval=true \
      schedule.epochs=1 'schedule.steps=[1]' train.log_every=1 train.evaluate_every=0 "$@" > "$work/$name.txt" 2>&1 ||
      { tail -n 20 "$work/$name.txt" && return 1; }
    losses "ranks.$name" > "$work/$name.losses"
    [ -s "$work/$name.losses" ]
  }
  one whole "loader.batch_size=$((2 * ranks))" || return 1
  for name in first second; do one "$name" --ranks "$ranks" --share-gpus loader.batch_size=2 || return 1; done
  figure '```'
  figure "$(sed -n '/^ranks: /,/^  a sum of /p' "$work/first.txt")"
  figure '```'
  # The largest relative difference between the losses of two trainings; 9 where one has fewer.
  worst_of() {
    paste "$work/$1.losses" "$work/$2.losses" | awk '{ d = ($2 - $1) / $1; if (d < 0) d = -d; if (NF != 2 || d > worst) worst = NF == 2 ? d : 9 } END { print worst + 0 }'
  }
  worst=$(worst_of whole first)
  figure "$(wc -l < "$work/first.losses") steps of $ranks ranks with 2 images each and of one process with $((2 * ranks)): losses differ by up to $worst, relative (bound 0.01)."
  within "$worst" 0 0.01 0 || { status=1 && figure "**The losses are out of bounds.**"; }
  # The same with a batch norm that is trained, over all ranks.
  for name in whole_norm ranks_norm; do
    if [ "$name" = whole_norm ]; then set -- "loader.batch_size=$((2 * ranks))"; else set -- --ranks "$ranks" --share-gpus loader.batch_size=2; fi
    one "$name" "$@" model.backbone.norm_eval=false || return 1
  done
  worst=$(worst_of whole_norm ranks_norm)
  figure "With batch norm over all ranks: losses differ by up to $worst, relative (bound 0.01)."
  within "$worst" 0 0.01 0 || { status=1 && figure "**These losses are out of bounds.**"; }
  if cmp -s "$work"/ranks.first/checkpoints/checkpoint_*.safetensors "$work"/ranks.second/checkpoints/checkpoint_*.safetensors; then
    figure "Two runs of $ranks ranks end with the same bits."
  else
    figure "**Two runs of $ranks ranks differ.**" && status=1
  fi
  return "$status"
}

if [ -n "$inside" ]; then
  "stage_$inside"
  exit
fi

# --- the frame: libraries, device, verdicts, report ---

if [ ${#chosen[@]} -eq 0 ] && [ -n "$after" ]; then
  if grep -qE '^verdict: ranks (failed|ran)' "$after"; then
    chosen=(ranks)
  elif grep -qE '^(failed: |verdict: [a-z]+ (failed|ran))' "$after"; then
    chosen=(failed eager serial)
  else
    chosen=(tuned batches turns)
  fi
fi
if [ ${#chosen[@]} -eq 0 ]; then chosen=("${stages[@]}"); fi
if $dry_run; then
  echo "programs: $bin"
  echo "report:   $out/report.md"
  for s in "${chosen[@]}"; do printf '%-10s at most %3d s  %s\n' "$s" "${limit[$s]}" "${what[$s]}"; done
  echo "at most $seconds s on $device"
  exit 0
fi
if [ ! -x "$bin/benchmark" ]; then
  echo "gpu_check: no programs in $bin: unpack a bundle, run scripts/build.sh, or name the folder with --bin" >&2
  exit 1
fi

missing_libraries() { ldd "$bin"/benchmark "$bin"/test_cuda 2> /dev/null | sed -nE 's/^\s*(\S+) => not found.*/\1/p' | sort -u; }
if [ "$device" = cuda ] || [ -n "$(missing_libraries)" ]; then
  # shellcheck source=scripts/library_path.sh
  . "$root/scripts/library_path.sh"
fi
if [ "$device" = cpu ] && [ -d "$root/lib/cpu" ] && [ -n "$(missing_libraries)" ]; then
  export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$root/lib/cpu
fi
missing=$(missing_libraries)
if [ -n "$missing" ]; then
  echo "gpu_check: not found: ${missing//$'\n'/ }. Install them, or PyTorch for the same CUDA version, or name their folder in LD_LIBRARY_PATH." >&2
  exit 1
fi
libraries=$(ldd "$bin"/benchmark 2> /dev/null | sed -nE 's/^\s*(lib(cudnn|cublas|nccl)\S*) => (.*) \(.*/\1 from \3/p' | sort -u)
# Opened when several ranks meet.
nccl=$(tr : '\n' <<< "${LD_LIBRARY_PATH:-}" | sed '/^$/d; s|$|/libnccl.so.2|' | xargs -r ls 2> /dev/null | head -n 1)
if [ -z "$nccl" ]; then nccl=$(PATH=$PATH:/sbin ldconfig -p 2> /dev/null | sed -nE 's/.*libnccl\.so\.2 .*=> //p' | head -n 1); fi
if [ -n "$nccl" ]; then libraries+=${libraries:+$'\n'}"libnccl.so.2 from $nccl"; elif [ "$device" = cuda ]; then libraries+=$'\n'"no libnccl.so.2: nothing for \`ranks\`"; fi
echo "libraries: ${libraries:-neither cuDNN nor cuBLAS nor NCCL is needed}"

# The program itself says that there is no driver or no GPU. Whatever else is wrong is for the stages to show.
if [ "$device" = cuda ]; then
  problem=$("$bin/inspect" device --device cuda 2>&1 | grep -F -- 'no usable GPU:' || true)
  if [ -n "$problem" ]; then
    echo "gpu_check: no usable GPU, nothing was run. $problem" >&2
    exit 77
  fi
fi

began=$SECONDS
left() { echo $((seconds - (SECONDS - began) - 8)); }  # the report takes its time, too
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
declare -A verdict took
# Ends what a session of processes has left: a `timeout` inside a stage has a process group of its own, which that of
# the stage does not reach.
end_session() {
  local stat fields
  for stat in /proc/[0-9]*/stat; do
    read -r -a fields < <(sed 's/.*) //' "$stat" 2> /dev/null)  # state, parent, group, session, ..; the name before may hold spaces
    if [ "${fields[3]:-}" = "$1" ]; then kill -KILL "$(basename "$(dirname "$stat")")" 2> /dev/null; fi
  done
}
# run_stage NAME: leaves its log, its exit status and its time in the work folder.
run_stage() {
  local start=$SECONDS most=${limit[$1]} status
  if [ "$(left)" -lt "$most" ]; then most=$(left); fi
  if [ "$most" -lt 5 ]; then
    echo "no time was left" > "$work/$1.log"
    echo "77 0" > "$work/$1.status"
    return
  fi
  setsid timeout --kill-after 5 "$most" "$root/scripts/gpu_check.sh" --inside "$1" "$work" --device "$device" --bin "$bin" \
    ${after:+--after "$after"} > "$work/$1.log" 2>&1 < /dev/null &
  local session=$!
  wait "$session"
  status=$?
  end_session "$session"
  echo "$status $((SECONDS - start))" > "$work/$1.status"
}
failures=0
judge() {
  local status
  read -r status "took[$1]" < "$work/$1.status"
  case $status in
    0) verdict[$1]=passed ;;
    77) verdict[$1]="skipped: $(tail -n 1 "$work/$1.log")" ;;
    124 | 137) verdict[$1]="ran out of its time" ;;
    *) verdict[$1]="failed, exit status $status" ;;
  esac
  if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then failures=$((failures + 1)); fi
  printf '== %s: %s (%d s; %d s in all)\n' "$1" "${verdict[$1]}" "${took[$1]}" $((SECONDS - began))
  if [ -s "$work/$1.jsonl" ]; then
    while read -r line; do
      printf '   %-10s %-5s batch %-3s graph %-5s compile %-6s %9.2f ms %9.1f images/s %8.0f MB%s%s\n' "$(field "$line" implementation)" \
        "$(field "$line" precision)" "$(field "$line" batch)" "$(field "$line" graph)" "$(field "$line" compile)" "$(field "$line" ms_median)" \
        "$(field "$line" images_per_s)" "$(field "$line" peak_memory_mb)" "$(field "$line" deform_ms_median | sed 's/.*/, deformable part & ms/')" \
        "$(field "$line" error | sed 's/.*/, error: &/')"
    done < "$work/$1.jsonl" | tee "$work/$1.rows"
  elif [ -f "$work/$1.md" ] && [ "$1" != kernels ]; then
    head -n 40 "$work/$1.md" | cut -c 1-170 | sed 's/^/   /'
  fi
  if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then tail -n 12 "$work/$1.log" | cut -c 1-300 | sed 's/^/   | /'; fi
}

index=0
while [ $index -lt ${#chosen[@]} ]; do
  group=("${chosen[$index]}")
  index=$((index + 1))
  while [[ $together == *" ${group[0]} "* ]] && [ $index -lt ${#chosen[@]} ] && [[ $together == *" ${chosen[$index]} "* ]]; do
    group+=("${chosen[$index]}")
    index=$((index + 1))
  done
  if [ "$device" = cpu ]; then  # few cores
    for s in "${group[@]}"; do run_stage "$s"; done
  else
    for s in "${group[@]}"; do run_stage "$s" & done
    wait
  fi
  for s in "${group[@]}"; do judge "$s"; done
done

mkdir -p "$out"
ratios() {
  cat "$work"/{step,again,pytorch,turns}.jsonl 2> /dev/null | while read -r line; do
    printf '%s %s %s %s %s %s %s\n' "$(field "$line" implementation)" "$(field "$line" precision)" "$(field "$line" batch)" \
      "$(field "$line" compile)" "$(field "$line" graph)" "$(field "$line" ms_median)" "$(field "$line" deform_ms_median)"
  done | awk '
    $1 == "gradlibra" && $6 > 0 && (!(($2, $3) in ours) || $6 < ours[$2, $3]) { ours[$2, $3] = $6 }
    $1 == "pytorch" && $6 > 0 { n++; who[n] = $2 SUBSEP $3; name[n] = $2 ", batch " $3 ", compile " $4; ms[n] = $6; deform[n] = $7 }
    END { for (i = 1; i <= n; ++i) if (who[i] in ours) {
            printf "PyTorch %s: %.2f ms, %.2f x ours (%.2f ms)", name[i], ms[i], ms[i] / ours[who[i]], ours[who[i]]
            if (deform[i] > 0) printf "; without its deformable part (%.2f ms) %.2f x", deform[i], (ms[i] - deform[i]) / ours[who[i]]
            printf "\n" } }'
}
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
    if [ -f "$work/$s.rows" ]; then printf '```\n%s\n```\n\n' "$(cat "$work/$s.rows")"; fi
    if [ -f "$work/$s.md" ]; then
      cat "$work/$s.md"
      if [ $(($(grep -c '^```' "$work/$s.md") % 2)) -eq 1 ]; then echo '```'; fi  # cut short
    fi
    if [ "${verdict[$s]}" != passed ]; then
      printf '\n%s. The end of %s.log:\n\n```\n' "${verdict[$s]}" "$s"
      tail -n 40 "$work/$s.log" | cut -c 1-500
      echo '```'
    fi
  done
  printf '\n## Outcome\n\n```\n'
  for s in "${chosen[@]}"; do echo "verdict: $s ${verdict[$s]}"; done
  cat "$work"/*.failed 2> /dev/null | sort -u | sed 's/^/failed: /'
  ratios
  echo '```'
} > "$out/report.md"
rm -rf "$work"/cells* "$work/inductor" "$work"/cuda.* "$work/cpu" "$work"/cpu.* "$work"/ranks.*/checkpoints
tar -C "$work" -czf "$out/logs.tar.gz" .
sed -n '/^## Outcome/,$p' "$out/report.md"
echo "report: $out/report.md"
[ "$failures" -eq 0 ]
