#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What scripts/quickstart.sh does when its training is interrupted, with programs that only pretend.
set -euo pipefail
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/scripts" "$scratch/configs" "$scratch/build/release/bin"
cp "$tree/scripts/quickstart.sh" "$scratch/scripts/"
cd "$scratch"
echo "x: 1" > configs/quickstart.yaml
for script in setup build; do printf '#!/bin/sh\n' > scripts/$script.sh; done
# Trains until a signal comes or the file `end` is there; then it has finished.
cat > build/release/bin/train << 'END'
#!/usr/bin/env bash
arguments=$*
while [ $# -gt 0 ]; do [ "$1" = --work-dir ] && folder=$2; shift; done
mkdir -p "$folder" && rm -f "$folder/finished"
echo "$arguments" > "$folder/arguments"
trap 'touch "$folder/checkpoint"; exit 0' TERM
touch started
while [ ! -e end ]; do sleep 0.05; done
touch "$folder/finished"
END
# Cross-entropy's numbers are others.
cat > build/release/bin/evaluate << 'END'
#!/usr/bin/env bash
touch evaluated
while [ $# -gt 0 ]; do [ "$1" = --output ] && folder=$2; shift; done
first=4 && [[ $folder != *cross_entropy ]] || first=3
mkdir -p "$folder"
printf '{\n  "mAP": 0.%d47,\n  "groups": {\n    "AP_f": 0.746,\n    "AP_c": 0.609,\n    "AP_r": 0.359,\n    "mR_f": 0.9,\n    "mR_r": 0.925\n  }\n}\n' \
  "$first" > "$folder/metrics.json"
END
for program in synthesize report; do printf '#!/bin/sh\n' > build/release/bin/$program; done
chmod +x scripts/*.sh build/release/bin/*

failures=0
expect() { # WHAT GOT WANT
  [ "$2" = "$3" ] && return
  printf '%s: got %s, want %s\n' "$1" "$2" "$3"
  failures=$((failures + 1))
}
there() { [ -e "$1" ] && echo yes || echo no; }
# interrupt WHO SIGNAL: sends it to the script or to its training, and waits for the end.
interrupt() {
  rm -f started evaluated end out/quickstart/train/checkpoint
  env --default-signal=HUP scripts/quickstart.sh > said.txt 2>&1 &  # which nohup would have it ignore
  local script=$! target
  for _ in $(seq 200); do [ -e started ] && break; sleep 0.05; done
  target=$script
  if [ "$1" = training ]; then target=$(pgrep -P "$script" -f bin/train); fi
  kill -s "$2" "$target"
  code=0
  wait "$script" || code=$?
  expect "$1 $2: a checkpoint" "$(there out/quickstart/train/checkpoint)" yes
  expect "$1 $2: evaluated" "$(there evaluated)" no
  expect "$1 $2: exit code" "$code" 143
  expect "$1 $2: says how to go on" "$(grep -c 'Run scripts/quickstart.sh again to go on' said.txt)" 1
}
interrupt script TERM
interrupt script HUP
interrupt training TERM

rm -f evaluated
touch end
scripts/quickstart.sh > said.txt 2>&1
expect "finished: evaluated" "$(there evaluated)" yes
scripts/quickstart.sh --compare > said.txt 2>&1
expect "compare: Grad-Libra's line" "$(grep -E '^Grad-Libra ' said.txt | tr -s ' ')" "Grad-Libra 44.7 74.6 60.9 35.9 92.5"
expect "compare: cross-entropy's line" "$(grep -E '^cross-entropy ' said.txt | tr -s ' ')" "cross-entropy 34.7 74.6 60.9 35.9 92.5"
expect "compare: what it trained" "$(grep -c 'model.loss.type=cross_entropy' out/quickstart/cross_entropy/train/arguments)" 1
expect "compare: on the same configuration" "$(sed 's/--work-dir [^ ]*//; s/ model.*//' out/quickstart/cross_entropy/train/arguments)" \
  "$(sed 's/--work-dir [^ ]*//' out/quickstart/train/arguments)"
[ "$failures" -eq 0 ] && echo "interruptions are heard, and --compare compares"
exit "$((failures > 0))"
