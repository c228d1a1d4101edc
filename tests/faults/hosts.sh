#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Trains on two hosts that are network namespaces of this machine, each with its own name and address: the same bits as
# on one, an end with the lost rank's name when the network between them is cut or one of them is stopped, and the same
# evaluation as by one process.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tests/faults/hosts.sh [BIN]
BIN is a build's folder of programs (default: build/release/bin). Needs root, iproute2 and Open MPI; without one of them
the exit code is 77, with the reason. Delay and loss of packets need the kernel's netem, and are passed over without.
TEXT
}
case ${1:-} in -h | --help) usage && exit 0 ;; -*) usage >&2 && exit 2 ;; esac
# shellcheck source=tests/faults/two_hosts.sh
source "$(dirname "${BASH_SOURCE[0]}")/two_hosts.sh"
for program in mpirun unshare; do command -v "$program" > /dev/null || skip "no $program on PATH"; done

# What mpirun calls in the place of ssh: HOST COMMAND.., to be read by a shell over there.
cat > agent << END
#!/bin/bash
[ "\$1" = "$address_b" ] || { echo "no such host: \$1" >&2; exit 1; }
shift
exec ip netns exec "$second" unshare --uts bash -c "hostname host-b; cd '$scratch'; \$*"
END
chmod +x agent
# on_hosts COMMAND..: a rank on each host. mpirun runs on the first.
on_hosts() {
  in_a unshare --uts bash -c 'hostname host-a; exec "$@"' mpirun mpirun -q --allow-run-as-root --bind-to none \
    --mca plm_rsh_agent "$scratch/agent" --mca btl self,tcp --mca oob_tcp_if_include "$address_a/24" \
    --mca btl_tcp_if_include "$address_a/24" --host "$address_a:1,$address_b:1" -np 2 "$@"
}

train() { echo "$bin/train" --config small.yaml --work-dir "$1" --device cpu --threads 1 "${@:2}"; }

# shellcheck disable=SC2046  # the words of a command
mpirun -q --allow-run-as-root --oversubscribe --bind-to none -np 2 $(train together) > log.txt 2>&1 ||
  failed "two ranks on one host"
# shellcheck disable=SC2046
on_hosts $(train apart) > log.txt 2>&1 || failed "two ranks on two hosts"
for host in host-a host-b; do grep -q "on $host: CPU" log.txt || failed "nobody is on $host"; done
[ "$(weights_of together)" = "$(weights_of apart)" ] || failed "other weights on two hosts than on one"
echo "two hosts: the weights of one, $(weights_of apart | cut -c 1-16)"

# begin NAME: two ranks that train without an end, as process $run.
begin() {
  : > log.txt
  # shellcheck disable=SC2046
  on_hosts $(train "$1" schedule.epochs=1000000 train.checkpoint_every=1000000) > log.txt 2>&1 &
  run=$!
  for ((i = 0; i < 300; ++i)); do
    if grep -q "epoch 1/" log.txt; then break; fi
    sleep 0.1
  done
  [ "$(ranks_left | wc -l)" -eq 2 ] || failed "two ranks should be training"
}
# no_success: the end of $run, whose mpirun may never come back where its ranks were killed (docs/cluster.md).
no_success() {
  for ((i = 0; i < 300; ++i)); do
    kill -0 "$run" 2> /dev/null || break
    sleep 0.1
  done
  kill -9 "$run" 2> /dev/null || true
  ! wait "$run" 2> /dev/null
}
# await_ranks N WHAT: until no more than N are left; sets $took, in milliseconds.
await_ranks() {
  local began
  began=$(date +%s%N)
  while [ "$(ranks_left | wc -l)" -gt "$1" ]; do
    [ $((($(date +%s%N) - began) / 1000000000)) -lt 60 ] || failed "a rank is left 60 s after $2"
    sleep 0.1
  done
  took=$((($(date +%s%N) - began) / 1000000))
}

begin cut
link down
await_ranks 0 "the link was cut"
# mpirun itself would wait for an answer from the other host until TCP gives up, a quarter of an hour.
ip netns pids "$first" | xargs -r kill -9 2> /dev/null || true
no_success || failed "exit code 0 after the link was cut"
grep -Eq "rank 0 on host-a: lost rank 1 on host-b at step [0-9]+" log.txt || failed "rank 0 does not name the rank it lost"
echo "link cut: both ranks over after $took ms, distributed.timeout being 4 s; $(grep -Eo 'lost rank 1 on host-b.*' log.txt | head -n 1)"
ip netns pids "$second" | xargs -r kill -9 2> /dev/null || true
link up

# A rank that is stopped, and has its network still.
begin stopped
victim=$(ranks_left | while read -r pid; do if ip netns pids "$second" | grep -qx "$pid"; then echo "$pid"; fi; done)
[ -n "$victim" ] || failed "nobody trains on host-b"
kill -STOP "$victim"
await_ranks 1 "the other one was stopped"
kill -9 "$victim" 2> /dev/null || true  # mpirun may have ended it
no_success || failed "exit code 0 after a rank was stopped"
grep -Eq "rank 0 on host-a: lost rank 1 on host-b at step [0-9]+: no sign of life" log.txt ||
  failed "rank 0 does not name the rank that was stopped"
echo "a rank stopped: the other one over after $took ms"

"$bin/synthesize" --config "$tree/configs/quickstart.yaml" --output seen "${small[@]}" synthesize.test=7 > log.txt
evaluate=("$bin/evaluate" --checkpoint "$scratch/together" --device cpu --threads 1 "data.root=$scratch/seen")
"${evaluate[@]}" --output "$scratch/seen_by_one" > log.txt 2>&1 || failed "evaluate by one process"
on_hosts "${evaluate[@]}" --output "$scratch/seen_by_two" > log.txt 2>&1 || failed "evaluate on two hosts"
cmp seen_by_one/metrics.json seen_by_two/metrics.json || failed "two hosts find something else than one process"
echo "evaluation on two hosts: the metrics of one process"

netem=(tc qdisc add dev "v$id-a" root netem)
if ! in_a "${netem[@]}" delay 5ms 2ms loss 1% 2> why.txt; then
  echo "delay and loss: passed over, no netem in this kernel ($(head -n 1 why.txt))"
  exit 0
fi
# shellcheck disable=SC2046
on_hosts $(train slow) > log.txt 2>&1 || failed "two ranks over a slow link that loses packets"
[ "$(weights_of slow)" = "$(weights_of together)" ] || failed "other weights over a slow link"
echo "delay of 5 ms, 1 % of packets lost: the same weights"
