#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The launch scripts: what they would run, and what they do about exit codes, with stand-ins for train, srun, scontrol.
set -euo pipefail
launch=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../scripts/launch" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $1" >&2 && exit 1; }
expect() { [[ "$2" == *"$1"* ]] || fail "'$1' is not in: $2"; }
equal() { [ "$1" = "$2" ] || fail "expected '$1', got '$2'"; }
code_of() {
  local code=0
  "$@" > "$work/out" 2> "$work/err" || code=$?
  echo "$code"
}

mkdir -p "$work/bin"
export PATH="$work/bin:$PATH"
for script in local.sh mpirun.sh torchrun.sh slurm.sbatch; do
  "$launch/$script" --help > "$work/help" || fail "$script --help"
  expect "usage: " "$(< "$work/help")"
  equal 2 "$(code_of "$launch/$script" --nonsense)"
  equal 2 "$(code_of "$launch/$script")"
done

for wrong in "local.sh --ranks" "local.sh --ranks 0" "local.sh --restarts x" "mpirun.sh --ranks 1.5" "torchrun.sh --nproc-per-node 0" \
  "torchrun.sh --nproc-per-node x" "local.sh --bin /nowhere" "mpirun.sh --ranks 2 --bin /nowhere" "torchrun.sh --bin /nowhere"; do
  read -r -a words <<< "$wrong"
  more=(-- --work-dir out)
  [ "${#words[@]}" -gt 2 ] || more=()
  equal 2 "$(code_of "$launch/${words[0]}" "${words[@]:1}" "${more[@]}")"
  expect "${words[0]}: " "$(< "$work/err")"
done

arguments=(--config 'a b.yaml' --work-dir out schedule.lr=0.1)
text=$("$launch/local.sh" --ranks 4 --bin /x --dry-run -- "${arguments[@]}")
equal '/x/train --config a\ b.yaml --work-dir out schedule.lr=0.1 --resume --ranks 4 ' "$text"
text=$("$launch/mpirun.sh" --ranks 4 --hosts n1:2,n2:2 --threads 3 --bin /x --dry-run -- "${arguments[@]}")
expect 'mpirun -q --bind-to none -np 4 --host n1:2\,n2:2' "$text"
expect '/x/train --config a\ b.yaml --work-dir out schedule.lr=0.1 --resume --threads 3' "$text"
text=$("$launch/torchrun.sh" --nproc-per-node 2 --nnodes 2 --node-rank 1 --master n1:4444 --bin /x --dry-run -- "${arguments[@]}")
equal 2 "$(wc -l <<< "$text")"
expect 'env RANK=2 WORLD_SIZE=4 LOCAL_RANK=0 LOCAL_WORLD_SIZE=2 MASTER_ADDR=n1 MASTER_PORT=4444 /x/train ' "$text"
expect 'env RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 ' "$text"
text=$("$launch/torchrun.sh" --job mine --bin /x --dry-run -- "${arguments[@]}")
expect 'env TORCHELASTIC_RUN_ID=mine RANK=0 WORLD_SIZE=1 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 ' "$text"
text=$("$launch/torchrun.sh" --nnodes 2 --bin /x --dry-run -- "${arguments[@]}" 2>&1) && fail "two machines without a master"
expect '--nnodes 2 needs --master HOST:PORT' "$text"
text=$(NCCL_DEBUG=INFO OMP_NUM_THREADS=2 "$launch/mpirun.sh" --ranks 2 --bin /x --dry-run -- "${arguments[@]}")
expect '-x NCCL_DEBUG ' "$text"
expect '-x OMP_NUM_THREADS ' "$text"
text=$(GRADLIBRA_BIN=/x SLURM_CPUS_PER_TASK=8 "$launch/slurm.sbatch" --dry-run -- "${arguments[@]}")
expect 'srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task=8 /x/train --config a\ b.yaml' "$text"
expect '--resume --stopped-code 75 --threads 8' "$text"
expect 'exit code 75: scontrol requeue' "$text"
# What sbatch reads must stand in front of the first command.
[ "$(grep -n '^#SBATCH' "$launch/slurm.sbatch" | tail -n 1 | cut -d: -f1)" -lt "$(grep -n '^bin=' "$launch/slurm.sbatch" | cut -d: -f1)" ] ||
  fail "a line of #SBATCH behind a command"
expect '#SBATCH --requeue' "$(< "$launch/slurm.sbatch")"

# The stand-in ends with the next of the codes, and 0 when there are none left.
stand_in() {
  cat > "$work/bin/$1" << TEXT
#!/usr/bin/env bash
echo "$1 \$*" >> "$work/calls"
code=\$(head -n 1 "$work/codes")
sed -i 1d "$work/codes"
exit "\${code:-0}"
TEXT
  chmod +x "$work/bin/$1"
}
stand_in train && stand_in srun
printf '#!/usr/bin/env bash\necho "scontrol $*" >> %q\n' "$work/calls" > "$work/bin/scontrol" && chmod +x "$work/bin/scontrol"
# calls CODES COMMAND..: the exit code and how often what was called
calls() {
  tr ' ' '\n' <<< "$1" > "$work/codes"
  : > "$work/calls"
  shift
  echo "$(code_of "$@"): $(cut -d' ' -f1 < "$work/calls" | tr '\n' ' ')"
}
local=("$launch/local.sh" --bin "$work/bin")
equal "0: train train train " "$(calls "5 137 0" "${local[@]}" --restarts 3 -- --work-dir out)"
expect "start 2 of 3 again" "$(< "$work/err")"
equal "5: train train " "$(calls "5 5 0" "${local[@]}" --restarts 1 -- --work-dir out)"
for code in 1 2 3 130; do equal "$code: train " "$(calls "$code 0" "${local[@]}" --restarts 3 -- --work-dir out)"; done
sbatch=(env SLURM_JOB_ID=77 GRADLIBRA_MOST_LOSSES=2 "$launch/slurm.sbatch" -- --work-dir out)
equal "0: srun scontrol " "$(calls "75" "${sbatch[@]}")"
expect "scontrol requeue 77" "$(< "$work/calls")"
equal "0: srun " "$(calls "0" "${sbatch[@]}")"
# Two losses in a row are borne, the third is not; a start that got to its time limit begins the count anew, and a
# restart that SLURM counts is no loss.
cd "$work"
for again in 1 2; do
  equal "0: srun scontrol " "$(calls "137" env SLURM_RESTART_COUNT=7 "${sbatch[@]}")"
  equal "0: srun scontrol " "$(calls "5" "${sbatch[@]}")"
  expect "loss 2 of at most 2 in a row" "$(< "$work/out")"
  if [ "$again" = 1 ]; then equal "0: srun scontrol " "$(calls "75" "${sbatch[@]}")"; fi
done
equal "5: srun " "$(calls "5" "${sbatch[@]}")"
expect "given up" "$(< "$work/out")"
equal "0: srun scontrol " "$(calls "5" "${sbatch[@]}")"
for code in 3 143; do equal "$code: srun " "$(calls "$code" "${sbatch[@]}")"; done
[ ! -e gradlibra.77.losses ] || fail "the count of losses is left behind"
cd - > /dev/null

# torchrun's stand-in: one rank fails at once, the other is ended with it.
cat > "$work/bin/train" << 'TEXT'
#!/usr/bin/env bash
[ "$RANK" != 1 ] || exit 7
exec sleep 60
TEXT
start=$SECONDS
equal 7 "$(code_of "$launch/torchrun.sh" --nproc-per-node 2 --bin "$work/bin" -- --work-dir out)"
[ $((SECONDS - start)) -lt 30 ] || fail "the other rank went on"

# One that is stopped cannot end by itself, and must not stay with the GPU's memory in its hands.
cat > "$work/bin/train" << 'TEXT'
#!/usr/bin/env bash
[ "$RANK" != 1 ] || { sleep 0.3 && exit 5; }
echo $$ > "$2/stopped"
kill -STOP $$
TEXT
start=$SECONDS
equal 5 "$(GRADLIBRA_KILL_AFTER=1 code_of timeout 60 "$launch/torchrun.sh" --nproc-per-node 2 --bin "$work/bin" -- --work-dir "$work")"
[ $((SECONDS - start)) -lt 30 ] || fail "a stopped rank kept torchrun.sh"
if kill -0 "$(< "$work/stopped")" 2> /dev/null; then fail "a stopped rank is left behind"; fi

# A signal to local.sh goes on to the training, and is the end.
cat > "$work/bin/train" << TEXT
#!/usr/bin/env bash
trap 'exit 137' USR1
echo started >> "$work/calls"
for ((i = 0; i < 600; ++i)); do sleep 0.05; done
TEXT
: > "$work/calls"
"${local[@]}" --restarts 3 -- --work-dir out 2> /dev/null &
script=$!
for ((i = 0; i < 200; ++i)); do [ ! -s "$work/calls" ] || break && sleep 0.05; done
kill -USR1 "$script"
code=0
wait "$script" || code=$?
equal 137 "$code"
equal started "$(< "$work/calls")"
echo "all launch scripts do as they say"
