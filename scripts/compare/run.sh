#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Training steps of gradlibra and of PyTorch on the same machine: first that they compute the same, then how long they
# take.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  cat <<'TEXT'
usage: scripts/compare/run.sh [OPTIONS] [CONFIG | CONFIG,key.path=value,..]...
Runs one training step of each configuration in gradlibra and in PyTorch and compares every value and gradient; then times steps of both
in turn (gradlibra, PyTorch, gradlibra, ..) and prints the medians over the rounds. Without CONFIG: RepPoints on ResNet-18 and ResNet-50.
  --device cpu|cuda|auto   auto (default): a GPU if PyTorch sees one
  --threads N              CPU threads of both (default: all processors)
  --rounds N               runs of each, in turn (default 3)
  --batch N                images per step (default: 2 on the CPU, 32 on a GPU)
  --size H W               of the images (default 512 512)
  --steps S, --warmup W    timed and untimed steps of a run (default: 3 and 1 on the CPU, 30 and 10 on a GPU)
  --precision LIST         separated by commas, of fp32, tf32, bf16 (default: fp32 on the CPU, tf32,bf16 on a GPU)
  --no-compile             leave torch.compile out; on a GPU it is otherwise timed as well where PyTorch has it
  --no-check               only the times
  --every-loss             compare every classification loss, each after three steps of training so that what it accumulates
                           counts; nothing is timed
  --python PROGRAM         the Python that has PyTorch (default: python3, or /usr/bin/python3 if only that one has it)
  --preset NAME            binaries in build/NAME/bin (default release)
Every run's JSON line goes to out/compare/times.jsonl, the comparison to out/compare/check_*.txt. Exit status: 0, 1 if a value differs or
a run fails, 2 wrong use or something is missing.
TEXT
}

die() { echo "run.sh: $1" >&2 && exit 2; }

device=auto threads=$(nproc) rounds=3 batch="" size=(512 512) steps="" warmup="" precisions="" compile=true check=true every_loss=false python="" preset=release
configs=()
while [ $# -gt 0 ]; do
  case "$1" in
    --device) device=${2:?--device needs a name} && shift 2 ;;
    --threads) threads=${2:?--threads needs a number} && shift 2 ;;
    --rounds) rounds=${2:?--rounds needs a number} && shift 2 ;;
    --batch) batch=${2:?--batch needs a number} && shift 2 ;;
    --size) size=("${2:?--size needs a height and a width}" "${3:?--size needs a width}") && shift 3 ;;
    --steps) steps=${2:?--steps needs a number} && shift 2 ;;
    --warmup) warmup=${2:?--warmup needs a number} && shift 2 ;;
    --precision) precisions=${2:?--precision needs a list} && shift 2 ;;
    --no-compile) compile=false && shift ;;
    --no-check) check=false && shift ;;
    --every-loss) every_loss=true && shift ;;
    --python) python=${2:?--python needs a program} && shift 2 ;;
    --preset) preset=${2:?--preset needs a name} && shift 2 ;;
    -h | --help) usage && exit 0 ;;
    -*) usage >&2 && exit 2 ;;
    *) configs+=("$1") && shift ;;
  esac
done
r50=configs/reppoints_r50_grad_libra.yaml
if [ ${#configs[@]} -eq 0 ]; then configs=("$r50,model.backbone.depth=18" "$r50"); fi

for candidate in python3 /usr/bin/python3; do
  if [ -z "$python" ] && "$candidate" -c 'import torch, numpy, yaml' 2> /dev/null; then python=$candidate; fi
done
if [ -z "$python" ] || ! "$python" -c 'import torch, numpy, yaml' 2> /dev/null; then
  die "${python:-python3} has no PyTorch, numpy and PyYAML. On Debian: apt-get install python3-torch python3-numpy python3-yaml libopenblas0-pthread"
fi
has() { "$python" -c "import sys, torch; sys.exit(not ($1))"; }
if [ "$device" = auto ]; then
  device=cpu
  if has 'torch.cuda.is_available()'; then device=cuda; fi
fi
if [ "$device" = cuda ]; then
  if ! has 'torch.cuda.is_available()'; then die "$python has a PyTorch that sees no GPU"; fi
  if ! "$python" -c 'import torchvision' 2> /dev/null; then die "$python has no torchvision, whose deformable convolution a GPU needs"; fi
fi
bin=build/$preset/bin
for program in inspect benchmark synthesize train; do
  if [ ! -x "$bin/$program" ]; then die "$bin/$program is missing: scripts/build.sh --preset $preset"; fi
done

if [ "$device" = cuda ]; then
  batch=${batch:-32} steps=${steps:-30} warmup=${warmup:-10} precisions=${precisions:-tf32,bf16}
else
  batch=${batch:-2} steps=${steps:-3} warmup=${warmup:-1} precisions=${precisions:-fp32}
fi
modes=(eager)
if $compile && [ "$device" = cuda ] && has 'hasattr(torch, "compile")'; then modes+=(compiled); fi

out=out/compare
mkdir -p "$out"
: > "$out/times.jsonl"
opponent=("$python" scripts/compare/pytorch_reppoints.py)

# The comparison needs images, and those of the configuration may not be there: smears of our own drawing, with the
# configuration's model.
smears=$out/smears
if $check && [ ! -e "$smears/done" ]; then
  rm -rf "$smears"
  "$bin/synthesize" --config configs/quickstart.yaml --output "$smears" synthesize.train=12 synthesize.val=1 synthesize.test=1 > /dev/null
  touch "$smears/done"
fi

# Sets name, file and overrides from "CONFIG,key=value,..".
split_config() {
  local parts
  IFS=, read -r -a parts <<< "$1"
  file=${parts[0]} overrides=("${parts[@]:1}" train.pretrained=)
  name=$(tr -c 'A-Za-z0-9_.\n' _ <<< "$(basename "$1" .yaml)")
}

# The edges of BAGS lie between the classes of 12 patches.
losses=("")
if $every_loss; then
  losses=("type=cross_entropy normalizer=pos_plus_neg" "type=focal" "type=focal focal_alpha=0.25" "type=class_balanced"
    "type=class_balanced class_balanced.apply=element class_balanced.base=focal" "type=eqlv2" "type=eqlv2 eqlv2.objectness_channel=true"
    "type=seesaw" "type=bags bags.edges=[3,10]" "type=bags bags.edges=[10] bags.foreground_normalizer=rows normalizer=num_valid"
    "type=grad_libra weight_grad=detach" "type=grad_libra weight_grad=full" "type=grad_libra alpha_pos=off normalizer=num_pos_image_min1")
fi

# check NAME FILE OVERRIDES..: values and gradients of one step of $out/check_FILE.yaml. The last norm of a residual
# block starts at 0, which would leave most of the backbone without a gradient to compare.
check() {
  local step=$out/check_$1 config=$out/check_$2.yaml from=()
  local settings=(data.root="$smears" loader.batch_size=2 loader.height=128 loader.width=128 loader.resize=fit
    model.backbone.zero_init_residual=false schedule.warmup_iterations=0 schedule.lr=0.002 schedule.base_batch=0 "${@:3}")
  "$bin/inspect" config --config "$config" "${settings[@]}" > "$step.resolved.yaml"
  if $every_loss; then
    rm -rf "$step"
    "$bin/train" --config "$config" --work-dir "$step" --device "$device" --threads "$threads" --stop-after-step 3 "${settings[@]}" > "$step.log"
    from=(--checkpoint "$step")
  fi
  "$bin/inspect" step --config "$config" --device "$device" --threads "$threads" --output "$step.safetensors" "${from[@]}" "${settings[@]}" > /dev/null
  "${opponent[@]}" check --config "$step.resolved.yaml" --step "$step.safetensors" --device "$device" --threads "$threads" | tee "$step.txt"
}

status=0
for config in "${configs[@]}"; do
  split_config "$config"
  "$bin/inspect" config --config "$file" "${overrides[@]}" > "$out/$name.yaml"
  if ! $check; then continue; fi
  {
    echo "base: $PWD/configs/quickstart.yaml"
    awk '/^[^ ]/ { inside = /^model:/ } inside' "$out/$name.yaml"
  } > "$out/check_$name.yaml"
  for loss in "${losses[@]}"; do
    echo "== $config${loss:+, $loss}"
    read -r -a words <<< "$loss"
    check "$name${loss:+_$(tr -c 'A-Za-z0-9_.\n' _ <<< "$loss")}" "$name" "${words[@]/#/model.loss.}" || status=1
  done
done
if [ "$status" -ne 0 ]; then
  echo "run.sh: the two differ; nothing was timed" >&2
  exit 1
fi
if $every_loss; then exit 0; fi

# Both print one JSON object on their last line.
record() { tail -n 1 | sed "s/^{/{\"config\": \"$name\", /" >> "$out/times.jsonl"; }

for ((round = 1; round <= rounds; ++round)); do
  for config in "${configs[@]}"; do
    split_config "$config"
    for precision in ${precisions//,/ }; do
      echo "round $round of $rounds: $config, $precision" >&2
      "$bin/benchmark" step --config "$file" --device "$device" --threads "$threads" --precision "$precision" --batch "$batch" \
        --height "${size[0]}" --width "${size[1]}" --steps "$steps" --warmup "$warmup" --json "${overrides[@]}" | record
      for mode in "${modes[@]}"; do
        flags=()
        if [ "$mode" = compiled ]; then flags=(--compile); fi
        "${opponent[@]}" bench --config "$out/$name.yaml" --device "$device" --threads "$threads" --precision "$precision" --batch "$batch" \
          --size "${size[@]}" --steps "$steps" --warmup "$warmup" "${flags[@]}" | record
      done
    done
  done
done

"$python" - "$out/times.jsonl" << 'TABLE'
import json, statistics, sys
runs = {}
for line in open(sys.argv[1]):
    run = json.loads(line)
    setting = (run["config"], f'{run["batch"]} x {run["height"]} x {run["width"]}', run["precision"])
    who = run["implementation"] + (" compiled" if run["compile"] else "")
    runs.setdefault(setting, {}).setdefault(who, []).append(run)
device = next(iter(next(iter(runs.values())).values()))[0]
print(f'\n{device["device"]}, {device["threads"]} host threads; medians over rounds of the median step')
print(f'{"configuration":<40} {"batch":<15} {"precision":<10} {"":<20} {"ms":>9} {"images/s":>9} {"MB":>8} {"gradlibra is":>14}')
for setting, sides in runs.items():
    ms = {who: statistics.median(run["ms_median"] for run in rounds) for who, rounds in sides.items()}
    for who, rounds in sides.items():
        memory = max(run["peak_memory_mb"] for run in rounds)
        ratio = f'{ms[who] / ms["gradlibra"]:.2f} x as fast' if who != "gradlibra" else ""
        print(f'{setting[0]:<40} {setting[1]:<15} {setting[2]:<10} {who:<20} {ms[who]:>9.1f} {1e3 * rounds[0]["batch"] / ms[who]:>9.2f} '
              f'{memory:>8.0f} {ratio:>14}')
TABLE
