#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A real SLURM of two hosts, which are network namespaces of this machine, runs scripts/launch/slurm.sbatch: a signal as
# in front of a time limit and a lost rank each queue the job again, and the weights at its end are those of a training
# that nobody disturbed. A job that cannot be trained ends with train's exit code.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tests/faults/slurm.sh [BIN] [EMULATED]
BIN is a build's folder of programs (default: build/release/bin); EMULATED its test_emulated_training, for ranks with GPUs
and NCCL that are the emulator's. Needs root, iproute2, Open MPI and a SLURM whose
plugins have auth/none and mpi/pmix (Debian: slurmctld slurmd slurm-client); without one of them the exit code is 77, with
the reason. Nothing of a SLURM that runs on this machine is touched.
TEXT
}
case ${1:-} in -h | --help) usage && exit 0 ;; -*) usage >&2 && exit 2 ;; esac
emulated=${2:+$(realpath "$2")}
# shellcheck source=tests/faults/two_hosts.sh
source "$(dirname "${BASH_SOURCE[0]}")/two_hosts.sh"
export PATH=$PATH:/usr/sbin:/sbin
for program in mpirun slurmctld slurmd srun sbatch scontrol squeue; do
  command -v "$program" > /dev/null || skip "no $program on PATH"
done

mkdir control host-a host-b
printf '127.0.0.1 localhost\n%s host-a\n%s host-b\n' "$address_a" "$address_b" > hosts
cat > slurm.conf << END
ClusterName=gradlibra
SlurmctldHost=host-a($address_a)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation=$scratch/control
SlurmctldPidFile=$scratch/control/pid
SlurmctldLogFile=$scratch/control/log
SlurmdSpoolDir=$scratch/%n
SlurmdPidFile=$scratch/%n/pid
SlurmdLogFile=$scratch/%n/log
TmpFS=$scratch/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
KillWait=10
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=host-a NodeAddr=$address_a CPUs=2
NodeName=host-b NodeAddr=$address_b CPUs=2
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
# on HOST COMMAND..: with that host's name and network, and this SLURM.
on() {
  local host=$1 name=$first
  shift
  if [ "$host" = host-b ]; then name=$second; fi
  # shellcheck disable=SC2016  # expanded in there
  SLURM_CONF=$scratch/slurm.conf nsenter --net="/run/netns/$name" unshare --mount --uts \
    bash -c 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"' on "$host" "$scratch/hosts" "$@"
}
# until_it SECONDS COMMAND..: tries again and again, says whether it came true.
until_it() {
  local end=$((SECONDS + $1))
  shift
  until "$@" > /dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.2
  done
}
on host-a slurmctld -D > control.txt 2>&1 &
on host-a slurmd -D -N host-a > host-a.txt 2>&1 &
on host-b slurmd -D -N host-b > host-b.txt 2>&1 &
two_idle() { [ "$(on host-a sinfo --noheader --Node --states=idle | wc -l)" -eq 2 ]; }
until_it 30 two_idle || skip "no SLURM comes up here: $(tail -qn 2 control.txt control/log host-a.txt host-b.txt 2> /dev/null | tr '\n' ' ')"
on host-a srun --mpi=list 2>&1 | grep -q pmix || skip "this SLURM has no mpi/pmix"

# More ranks than processors must not wait for each other in turns that the kernel ends.
export GRADLIBRA_BIN=$bin OMPI_MCA_mpi_yield_when_idle=1
submit() { # work dir, overrides
  on host-a sbatch --parsable --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 --time=10 --output=log.txt \
    "$tree/scripts/launch/slurm.sbatch" -- --config small.yaml --work-dir "$1" --device cpu "${@:2}"
}
said() { [ "$(grep -c "$1" log.txt)" -ge "$2" ]; }
is_over() { local left && left=$(on host-a squeue --noheader --jobs="$1") && [ -z "$left" ]; }
# SLURM lets a job wait for two minutes before it starts it again. Without them the step before must be gone first: the
# next one has its number, and so the name of its socket.
step_is_gone() { ! compgen -G "host-[ab]/stepd.slurm.pmix.*" && ! compgen -G "host-[ab]/spmix_appdir*"; }
state_of() { on host-a squeue --noheader --jobs="$1" --format=%T; }
is_waiting() { [ "$(state_of "$1")" = PENDING ]; }
is_started() {
  if is_waiting "$1"; then on host-a scontrol update "jobid=$1" StartTime=now; fi
  [ "$(state_of "$1")" = RUNNING ]
}
start_again() {
  until_it 30 is_waiting "$1" || failed "the job is not queued again"
  until_it 30 step_is_gone || failed "the step before is not over: $(ls host-a host-b)"
  until_it 60 is_started "$1" || failed "the job does not start again"
}
trains_beyond() { [ -e "$1/checkpoints/checkpoint_$2.safetensors" ]; }

longer=(schedule.epochs=300 train.checkpoint_every=10 train.keep_checkpoints=1000)
# shellcheck disable=SC2046  # the words of a command
mpirun -q --allow-run-as-root --oversubscribe --bind-to none -np 2 "$bin/train" --config small.yaml --work-dir undisturbed \
  --device cpu --threads 1 "${longer[@]}" > log.txt 2>&1 || failed "two ranks on one host"

: > log.txt
job=$(submit disturbed "${longer[@]}")
until_it 60 trains_beyond disturbed 50 || failed "the job does not train"
for host in host-a host-b; do grep -q "on $host: CPU" log.txt || failed "nobody is on $host"; done
grep -q "^ranks: 2 by SLURM" log.txt || failed "the ranks do not name SLURM"
on host-a scancel --signal=USR1 "$job"
until_it 60 said "stopped with a checkpoint; queued again" 1 || failed "SIGUSR1 does not queue the job again"
stopped=$(sed -nE 's/^stopped after step ([0-9]+).*/\1/p' log.txt)

start_again "$job"
until_it 60 said "at step $stopped" 1 || failed "the job does not go on from step $stopped"
until_it 60 trains_beyond disturbed $(((stopped / 10 + 5) * 10)) || failed "the job does not train on"
kill -9 "$(ranks_left | tail -n 1)"
until_it 60 said "a rank was lost" 1 || failed "a lost rank does not queue the job again"
grep -Eq "lost rank [01] on host-[ab] at step [0-9]+" log.txt || failed "nobody names the lost rank"
[ -z "$(ranks_left)" ] || failed "a rank is left on a host"

start_again "$job"
until_it 120 is_over "$job" || failed "the job does not end"
[ -e disturbed/finished ] || failed "the training is not finished"
[ "$(weights_of disturbed)" = "$(weights_of undisturbed)" ] || failed "other weights than undisturbed"
compgen -G "gradlibra.*.losses" > /dev/null && failed "the count of losses is left behind"
echo "SIGUSR1 after step $stopped, then a killed rank: queued again each time, the weights of an undisturbed training"

: > log.txt
job=$(submit wrong schedule.epochs=none)
until_it 60 is_over "$job" || failed "a job with a wrong configuration does not end"
grep -q "schedule.epochs" log.txt || failed "the wrong key is not named"
! grep -q "queued again" log.txt || failed "a wrong configuration is queued again"
echo "a wrong configuration: the job ends, the key is named"

[ -n "$emulated" ] || exit 0
# No MPI: rank 0 is found by the list of nodes and the number of the job.
GRADLIBRA_EMULATED_NCCL=$scratch on host-a srun --nodes=2 --ntasks-per-node=2 --mpi=none \
  "$emulated" --gtest_filter='Hosts*' > log.txt 2>&1 || failed "four ranks with NCCL, hosts by TCP"
grep -q "ranks: 4 by SLURM.*hosts by TCP" log.txt || failed "the ranks do not meet by TCP"
[ "$(grep -c "PASSED" log.txt)" -eq 4 ] || failed "not all four ranks have passed"
echo "four ranks with emulated GPUs on two hosts: met by TCP, summed by the stand-in of NCCL"
