# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Two hosts that are network namespaces of this machine, each with a name and an address, and a training small enough
# for them; to be sourced with the folder of programs as $1. Leaves the caller in an empty folder, which goes at the end
# with the hosts and all that runs on them. Exit code 77, with the reason, where the machine has no such hosts.
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$(cd "${1:-$tree/build/release/bin}" && pwd)
skip() { echo "skipped: $*" && exit 77; }
[ "$(id -u)" -eq 0 ] || skip "network namespaces need root"
for program in ip unshare nsenter; do command -v "$program" > /dev/null || skip "no $program on PATH"; done

id=$$ scratch=$(mktemp -d)
first=gl$id-a second=gl$id-b
cleanup() {
  for name in "$first" "$second"; do
    ip netns pids "$name" 2> /dev/null | xargs -r kill -9 2> /dev/null || true
    ip netns del "$name" 2> /dev/null || true
  done
  rm -rf "$scratch"
}
trap cleanup EXIT
cd "$scratch" || exit 1
ip netns add "$first" 2> why.txt || skip "no network namespaces here: $(cat why.txt)"
ip netns add "$second"
ip link add "v$id-a" netns "$first" type veth peer name "v$id-b" netns "$second" 2> why.txt ||
  skip "no pair of virtual interfaces here: $(cat why.txt)"
address_a=10.213.7.1 address_b=10.213.7.2
in_a() { ip netns exec "$first" "$@"; }
in_b() { ip netns exec "$second" "$@"; }
in_a ip link set lo up && in_b ip link set lo up
in_a ip address add "$address_a/24" dev "v$id-a" && in_b ip address add "$address_b/24" dev "v$id-b"
link() { in_a ip link set "v$id-a" "$1"; in_b ip link set "v$id-b" "$1"; }
link up

small=(synthesize.train=8 synthesize.val=0 synthesize.test=0 synthesize.size=64 synthesize.scale=0.25)
"$bin/synthesize" --config "$tree/configs/quickstart.yaml" --output data "${small[@]}" > log.txt
cat > small.yaml << END
base: $tree/configs/quickstart.yaml
data: {root: data, missing_class: allow}
loader: {batch_size: 2, height: 64, width: 64}
model:
  backbone: {base_channels: 8}
  neck: {out_channels: 16, norm_groups: 4}
  head: {feat_channels: 16, point_channels: 16, stacked_convs: 1, norm_groups: 4}
schedule: {epochs: 4, warmup_iterations: 5}
train: {checkpoint_every: 2, log_every: 1000, evaluate_every: 0}
distributed: {timeout: 4}
END
weights_of() { sha256sum < "$(find "$1/checkpoints" -maxdepth 1 -name '*.safetensors' | sort -V | tail -n 1)"; }
failed() { echo "FAILED: $*" && tail -n 20 log.txt && exit 1; }

# The processes of train that are left on either host.
ranks_left() {
  local name pid
  for name in "$first" "$second"; do
    for pid in $(ip netns pids "$name"); do
      if [ "$(readlink "/proc/$pid/exe" || true)" = "$bin/train" ]; then echo "$pid"; fi
    done
  done
}
