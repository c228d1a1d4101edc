#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Kills trainings with kill -9 at random moments and within the writing of checkpoints, lets them go on, and compares
# what they end with, bit for bit, with a training that nobody disturbed.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tests/faults/kill_training.sh [--kills N] [--seed S] [--ranks R] [BIN]
BIN is a build's folder of programs (default: build/release/bin), N how often to kill (20), S the seed of the moments (1),
R the number of ranks (1), of which each kill hits one; more than one need mpirun (exit code 77 without).
Each training is killed up to 8 times. Every second kill waits for a checkpoint that is being written. Each training
ends with the same final checkpoint, best checkpoint and lines of log.jsonl (but for times), and after a kill all ranks
are over within a minute, with an exit code that is not 0; else the exit code is 1.
TEXT
}

wanted=20 seed=1 ranks=1 bin=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --kills) wanted=$2 && shift 2 ;;
    --seed) seed=$2 && shift 2 ;;
    --ranks) ranks=$2 && shift 2 ;;
    -*) usage >&2 && exit 2 ;;
    *) bin=$1 && shift ;;
  esac
done
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$(cd "${bin:-$tree/build/release/bin}" && pwd)
[ "$ranks" -eq 1 ] || command -v mpirun > /dev/null || { echo "skipped: no mpirun on PATH" && exit 77; }
RANDOM=$seed
scratch=$(mktemp -d)
child=
trap '[ -z "$child" ] || kill -9 "$child" 2> /dev/null || true; rm -rf "$scratch"' EXIT
cd "$scratch"

small=(synthesize.train=12 synthesize.val=4 synthesize.test=0 synthesize.size=64 synthesize.scale=0.25)
"$bin/synthesize" --config "$tree/configs/quickstart.yaml" --output data "${small[@]}" > log.txt
cat > small.yaml << END
base: $tree/configs/quickstart.yaml
data: {root: data, missing_class: allow}
loader: {batch_size: $((ranks == 1 ? 2 : 1)), height: 64, width: 64}
model:
  backbone: {base_channels: 8}
  neck: {out_channels: 16, norm_groups: 4}
  head: {feat_channels: 16, point_channels: 16, stacked_convs: 1, norm_groups: 4}
  test: {score_threshold: 0.001}
schedule: {epochs: 6, warmup_iterations: 5}
train: {checkpoint_every: 2, average_decay: 0.9, log_every: 1000}
END
# train FOLDER: one go, until it ends or is killed.
train() {
  exec "$bin/train" --config small.yaml --work-dir "$1" --resume --device cpu --threads 1 --ranks "$ranks"
}
# processes_of PID: the ranks of a training, the first one first.
processes_of() {
  if [ "$ranks" -eq 1 ]; then
    echo "$1"
  else
    pgrep -P "$(pgrep -P "$1" -x mpirun || echo 0)" -x train | sort -n || true
  fi
}
# A checkpoint's hash; the configuration in it is the same for all.
hash_of() { sha256sum < "$(find "$1" -maxdepth 1 -name '*.safetensors' | sort -V | tail -n 1)" | cut -c 1-16; }
# Steps, rates, losses and validations, without times and memory.
log_of() { sed -E 's/,"(step_seconds|data_wait|rank_wait|slowest_rank|memory_mb)":[^,}]*//g' "$1/log.jsonl" | sha256sum | cut -c 1-16; }
result() { echo "$(hash_of "$1/checkpoints") $(hash_of "$1/checkpoints/best") $(log_of "$1")"; }
# half_written FOLDER PID..: whether one of these processes is writing a checkpoint, or was when it was killed.
half_written() {
  local folder=$1 pid
  shift
  for pid in "$@"; do
    if [ -e "$folder/checkpoints/ckpt.tmp.$pid" ] || [ -e "$folder/checkpoints/best/ckpt.tmp.$pid" ]; then return 0; fi
  done
  return 1
}

began=$(date +%s%N)
(train whole) > log.txt 2>&1
milliseconds=$((($(date +%s%N) - began) / 1000000))
want=$(result whole)
echo "undisturbed: $want, $milliseconds ms"

differ=0 kills=0 within=0 trainings=0 slowest=0 well_after_kill=0
while [ "$kills" -lt "$wanted" ]; do
  run=run$trainings own=0
  while [ ! -e "$run/finished" ]; do
    (train "$run") > log.txt 2>&1 &
    child=$!
    if [ "$kills" -lt "$wanted" ] && [ "$own" -lt 8 ]; then
      # From before the first line on; too short to get through in one go.
      pause=$((RANDOM % (milliseconds * 7 / 10 + 1)))
      sleep "$(printf '%d.%03d' $((pause / 1000)) $((pause % 1000)))"
      mapfile -t processes < <(processes_of "$child")
      if [ $((kills % 2)) -eq 1 ]; then
        until half_written "$run" "${processes[@]}" || [ ! -e "/proc/$child/exe" ]; do :; done
      fi
      if [ ${#processes[@]} -gt 0 ] && kill -9 "${processes[RANDOM % ${#processes[@]}]}" 2> /dev/null; then
        killed=$(date +%s%N)
        kills=$((kills + 1)) own=$((own + 1))
        while [ -e "/proc/$child/exe" ]; do
          if [ $((($(date +%s%N) - killed) / 1000000000)) -ge 60 ]; then
            echo "a minute after the death of one rank the training goes on"
            exit 1
          fi
          sleep 0.01
        done
        code=0
        wait "$child" 2> /dev/null || code=$?
        # A kill may come a moment after the end.
        if [ "$code" -eq 0 ] && [ ! -e "$run/finished" ]; then well_after_kill=$((well_after_kill + 1)); fi
        took=$((($(date +%s%N) - killed) / 1000000))
        if [ "$took" -gt "$slowest" ]; then slowest=$took; fi
        if half_written "$run" "${processes[@]}"; then within=$((within + 1)); fi
      fi
    fi
    wait "$child" 2> /dev/null || true
    child=
  done
  trainings=$((trainings + 1))
  got=$(result "$run")
  if [ "$got" != "$want" ]; then
    echo "training $trainings: $got"
    differ=$((differ + 1))
  fi
  rm -rf "$run"
done
echo "$((trainings - differ)) of $trainings trainings with $kills kills, $within of them within a write, ended with the" \
  "same bits"
[ "$ranks" -eq 1 ] || echo "the other ranks were over at most $slowest ms after a kill"
if [ "$well_after_kill" -gt 0 ]; then echo "$well_after_kill times the exit code was 0 after a kill"; fi
exit "$((differ > 0 || well_after_kill > 0))"
