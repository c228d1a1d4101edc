#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Compares classification losses under one protocol (docs/results/protocol.md): the same budget of settings for each,
# chosen on the validation split, then seeds on a test split that nothing was chosen on. What is done is not done again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ ! -f CMakeLists.txt ]; then . scripts/library_path.sh; fi # a bundle of programs (scripts/bundle.sh)

bin=${BIN:-build/release/bin} out=${OUT_DIR:-out/compare_losses} device=${DEVICE:-auto} jobs=${JOBS:-2} threads=${THREADS:-1}
seconds=0 precision=${PRECISION:-fp32} chula="" bccd=""
losses=(cross_entropy focal grad_libra)
number_of_settings=8 search_seeds=(1 2) final_seeds=(11 12 13 14 15) only_seeds=()

usage() {
  cat <<TEXT
usage: scripts/compare_losses.sh [OPTIONS] STAGE..
Stages, each going on where it stopped:
  data     draws the set and the set of the head classes
  start    trains the backbone's start on the head classes
  search   trains every loss with its eight settings, two seeds each; evaluates on the validation split
  choose   names the best setting of every loss (mean mAP of the two seeds); needs all runs of the search; a setting with
           which a run diverged (its loss was not finite) is not chosen
  final    trains the chosen settings with five more seeds; evaluates on the test split
  scratch  the same from random weights
  longer   the same with 2 and 4 times the epochs, three seeds; longer2 and longer4: one of the two
  real     Chula RBC-12 and BCCD (--chula DIR, --bccd DIR) with the chosen settings, from random weights, three seeds
  table    prints means, spreads and paired differences
Exit code 1: a run failed or was left out for lack of time; what is done stays, and the same command does the rest.
A run that diverged is done: for another attempt, with other overrides, remove its runs/../diverged.txt.
Options (in the environment: BIN, OUT_DIR, DEVICE, JOBS, THREADS, PRECISION)
  --bin DIR --out DIR --device cpu|cuda|auto --jobs N (runs side by side) --threads N (of each) --precision P
  --seconds N   begin no run after so long
  --losses "A B"   of: cross_entropy focal grad_libra (these three if not given), focal_plain class_balanced eqlv2 seesaw bags_g2 bags_g3
  --settings N --search-seeds N --seeds N   fewer than eight, two and five, for a smaller trial
  --only-seeds "A B"   these of 11 to 15 alone (final, scratch, longer, real), to share runs among machines or days
  --set K=V     override of the configuration for every run (repeatable), for a smaller trial
TEXT
}

sets=() stages=()
while [ $# -gt 0 ]; do
  case "$1" in
    --bin | --out | --device | --jobs | --threads | --precision | --seconds | --chula | --bccd)
      value=${2:?$1 needs a value}
      case "$1" in
        --bin) bin=$value ;;
        --out) out=$value ;;
        --device) device=$value ;;
        --jobs) jobs=$value ;;
        --threads) threads=$value ;;
        --precision) precision=$value ;;
        --seconds) seconds=$value ;;
        --chula) chula=$value ;;
        --bccd) bccd=$value ;;
      esac
      shift 2 ;;
    --losses) read -r -a losses <<< "${2:?--losses needs names}" && shift 2 ;;
    --settings) number_of_settings=${2:?--settings needs a number} && shift 2 ;;
    --search-seeds) search_seeds=("${search_seeds[@]:0:${2:?--search-seeds needs a number}}") && shift 2 ;;
    --seeds) final_seeds=("${final_seeds[@]:0:${2:?--seeds needs a number}}") && shift 2 ;;
    --only-seeds) read -r -a only_seeds <<< "${2:?--only-seeds needs numbers}" && shift 2 ;;
    --set) sets+=("${2:?--set needs KEY=VALUE}") && shift 2 ;;
    -h | --help) usage && exit 0 ;;
    data | start | search | choose | final | scratch | longer | longer2 | longer4 | real | table) stages+=("$1") && shift ;;
    *) usage >&2 && exit 2 ;;
  esac
done
[ ${#stages[@]} -gt 0 ] || { usage >&2 && exit 2; }
for seed in ${only_seeds[@]+"${only_seeds[@]}"}; do
  if [[ " ${final_seeds[*]} " != *" $seed "* ]]; then
    echo "--only-seeds: there is no seed $seed: there are ${final_seeds[*]}" >&2 && exit 2
  fi
done
if [[ " ${stages[*]} " == *" real "* ]] && [ -z "$chula$bccd" ]; then  # now, and not after hours of other stages
  echo "stage real: needs --chula DIR or --bccd DIR" >&2 && exit 2
fi
began=$SECONDS
mkdir -p "$out/runs"
common=(--device "$device" --threads "$threads")

# The rows of Table 1 that are not a type of their own: focal is the paper's Focal*.
type_of() {
  case "$1" in
    focal_plain) echo focal ;;
    bags_*) echo bags ;;
    *) echo "$1" ;;
  esac
}
for loss in "${losses[@]}"; do
  if [[ " cross_entropy focal grad_libra focal_plain class_balanced eqlv2 seesaw bags_g2 bags_g3 " != *" $loss "* ]]; then
    echo "--losses: there is no $loss (--help lists them)" >&2 && exit 2
  fi
done

alphas() { echo "model.loss.alpha_pos=$1 model.loss.alpha_neg=$2"; }

# The eight settings of a loss, a line each: a factor on the configuration's rate, then overrides.
settings() {
  local weight rate
  case "$1" in
    grad_libra)
      echo "1 $(alphas 0.8 0.8) model.loss.weight=1"
      echo "1 $(alphas 0.8 0.8) model.loss.weight=3"
      echo "1 $(alphas 0.8 0.8) model.loss.weight=10"
      echo "2 $(alphas 0.8 0.8) model.loss.weight=3"
      echo "1 $(alphas 0.8 0.8) model.loss.weight=3 model.loss.weight_grad=full"
      echo "1 $(alphas 0.6 0.6) model.loss.weight=3"
      echo "1 $(alphas 0.2 0.6) model.loss.weight=3"
      echo "1 $(alphas 0.2 0.6) model.loss.weight=3 model.loss.weight_grad=full"
      ;;
    *)
      local own=""
      case "$1" in
        focal) own="model.loss.focal_alpha=0.25 " ;;
        bags_g2) own="model.loss.bags.edges=[3000] model.loss.bags.foreground_normalizer=rows " ;;
        bags_g3) own="model.loss.bags.edges=[1000,3000] model.loss.bags.foreground_normalizer=rows " ;;
      esac
      for weight in 1 3; do
        for rate in 0.5 1 2; do echo "$rate ${own}model.loss.weight=$weight"; done
      done
      case "$1" in
        class_balanced) printf '1 model.loss.class_balanced.beta=%s model.loss.weight=1\n' 0.999 0.99 ;;
        bags_*) for rate in 0.5 1; do echo "$rate ${own/rows/shared}model.loss.weight=1"; done ;;
        *) for rate in 0.5 1; do echo "$rate ${own}model.loss.weight=10"; done ;;
      esac
      ;;
  esac
}

# Whether a run, phase/loss.setting.seed, is not to be done again. One that diverged would do so again.
has_ended() { [ -e "$out/runs/$1/metrics.json" ] || [ -e "$out/runs/$1/diverged.txt" ]; }

# One run: phase, loss, number of the setting (from 1), seed, further overrides.
run_one() {
  local phase=$1 loss=$2 number=$3 seed=$4 split=test folder status=0
  shift 4
  folder=$out/runs/$phase/$loss.$number.$seed
  if has_ended "$phase/$loss.$number.$seed" || { [ "$seconds" -gt 0 ] && [ $((SECONDS - began)) -ge "$seconds" ]; }; then return 0; fi
  if [ "$phase" = search ]; then split="val"; fi
  local rate lr setting config=configs/smears_v2.yaml data
  data=("data.root=$out/data" "train.pretrained=$out/backbone.safetensors")
  case "$phase" in
    chula) config=configs/chula_reppoints_r18.yaml data=("data.root=$chula") ;;
    bccd) config=configs/bccd_reppoints_r18.yaml data=("data.root=$bccd") ;;
  esac
  read -r rate setting <<< "$(settings "$loss" | sed -n "${number}p")"
  read -r -a setting <<< "$setting"
  lr=$(awk -v rate="$rate" '$1 == "lr:" { print $2 * rate; exit }' "$config")
  mkdir -p "$folder"
  "$bin/train" --config "$config" "${common[@]}" --work-dir "$folder/train" --resume --stopped-code 75 "${data[@]}" "schedule.lr=$lr" \
    "model.loss.type=$(type_of "$loss")" "${setting[@]}" "train.seed=$seed" train.evaluate_every=0 "runtime.precision=$precision" ${sets[@]+"${sets[@]}"} "$@" \
    > "$folder/train.txt" 2>&1 || status=$?
  if [ "$status" -eq 3 ]; then  # the loss was not finite
    tail -n 1 "$folder/train.txt" > "$folder/diverged.txt"
    rm -rf "$folder/train"
    printf '%s diverged: %s\n' "$folder" "$(cat "$folder/diverged.txt")" >&2
  elif [ "$status" -eq 0 ] &&
    "$bin/evaluate" --checkpoint "$folder/train" "${common[@]}" --split "$split" --output "$folder/evaluation" \
      > "$folder/evaluate.txt" 2>&1; then
    mv "$folder/train/log.jsonl" "$folder/train/config.yaml" "$folder/evaluation/detections.json" "$folder/"
    if [ "$phase" = final ] || [ "$phase" = scratch ]; then mv "$folder"/train/checkpoints/*.safetensors "$folder/"; fi
    if [ "$phase" != final ] || [ "$seed" != "${final_seeds[0]}" ]; then rm -f "$folder"/*.safetensors "$folder/detections.json"; fi
    mv "$folder/evaluation/metrics.json" "$folder/metrics.json"
    rm -r "$folder/train" "$folder/evaluation"
    printf '%s %s\n' "$folder" "$(sed -nE 's/^  "mAP": ([0-9.]+),$/mAP \1/p' "$folder/metrics.json")"
  else
    printf '%s failed: %s\n' "$folder" "$(tail -n 1 "$folder/train.txt" "$folder/evaluate.txt" 2> /dev/null | tr '\n' ' ')" >&2
  fi
}

# Of runs on standard input, a line each, those still to be done: phase/loss.setting.seed.
still_to_do() {
  local phase loss number seed
  while read -r phase loss number seed _; do
    if ! has_ended "$phase/$loss.$number.$seed"; then echo "$phase/$loss.$number.$seed"; fi
  done
}

# Reads runs from standard input, a line each, and does `jobs` of them at a time. Not at the end of a pipe, which is a
# shell of its own and would keep `incomplete` to itself.
incomplete=0
run_all() {
  local lines line left
  mapfile -t lines
  if [ ${#lines[@]} -eq 0 ]; then return 0; fi  # --only-seeds with none of this phase's
  for line in "${lines[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do sleep 0.2; done
    # shellcheck disable=SC2086  # the words of the line are the arguments
    run_one $line < /dev/null &
  done
  wait
  left=$(printf '%s\n' "${lines[@]}" | still_to_do | wc -l)
  if [ "$left" -gt 0 ]; then
    incomplete=1
    echo "${lines[0]%% *}: $left of ${#lines[@]} runs failed or were left out: the same command does them" >&2
  fi
}

need_chosen() {
  for loss in "${losses[@]}"; do
    if ! grep -q "^$loss " "$out/chosen.txt" 2> /dev/null; then
      echo "$out/chosen.txt names no setting of $loss: run the stages search and choose first" >&2 && exit 1
    fi
  done
}
chosen() { sed -n "s/^$1 //p" "$out/chosen.txt"; }

# Settings outermost in the seeds' order, so that an interrupted search has compared like with like.
list_search() {
  local seed number loss
  for seed in "${search_seeds[@]}"; do
    for ((number = 1; number <= number_of_settings; ++number)); do
      for loss in "${losses[@]}"; do echo "search $loss $number $seed"; done
    done
  done
}

list_chosen() {  # phase, number of seeds, overrides
  local phase=$1 count=$2 seed loss
  shift 2
  for seed in "${final_seeds[@]:0:$count}"; do
    if [ ${#only_seeds[@]} -gt 0 ] && [[ " ${only_seeds[*]} " != *" $seed "* ]]; then continue; fi
    for loss in "${losses[@]}"; do echo "$phase $loss $(chosen "$loss") $seed $*"; done
  done
}

# Means over unequal seeds would favour a setting with a lucky one: one that has no result for each diverged. What was
# chosen for other losses stays.
choose() {
  local missing loss number
  missing=$(list_search | still_to_do)
  if [ -n "$missing" ]; then
    printf 'choose: runs of the search are missing: run the stage search again, which does them:\n%s\n' "$missing" >&2
    exit 1
  fi
  awk 'NR == FNR { asked[$0] = 1; seeds[$2 " " $3]++; next }
    ($1 " " $2 " " $3 " " $4) in asked { sum[$2 " " $3] += $5; n[$2 " " $3]++ }
    END {
      for (key in seeds)
        if (n[key] == seeds[key]) printf "%s %.5f %d\n", key, sum[key] / n[key], n[key]
        else printf "%s diverged %d\n", key, seeds[key] - n[key]
    }' <(list_search) <(collect) | sort -k1,1 -k3,3gr -k2,2n > "$out/search.txt"
  for loss in "${losses[@]}"; do
    if ! grep -q "^$loss [0-9]* [0-9]" "$out/search.txt"; then
      echo "choose: every setting of $loss diverged: see $out/runs/search/$loss.*/diverged.txt" >&2 && exit 1
    fi
  done
  {
    if [ -e "$out/chosen.txt" ]; then awk -v now=" ${losses[*]} " '!index(now, " " $1 " ")' "$out/chosen.txt"; fi
    awk '$3 != "diverged" && !($1 in seen) { seen[$1] = 1; print $1, $2 }' "$out/search.txt"
  } > "$out/chosen.txt.new"
  mv "$out/chosen.txt.new" "$out/chosen.txt"
  while read -r loss number; do
    printf '%s: setting %s: %s\n' "$loss" "$number" "$(settings "$loss" | sed -n "${number}p")"
  done < "$out/chosen.txt"
}

# A line for each run: phase, loss, setting, seed, mAP, AP_f, AP_c, AP_r, mR_f, mR_c, mR_r, detections.
collect() {
  local file name
  for file in "$out"/runs/*/*/metrics.json; do
    [ -e "$file" ] || continue
    name=${file%/metrics.json} && name=${name#"$out/runs/"}
    awk -v run="$name" -F '[:,]' '
      /"(mAP|AP_f|AP_c|AP_r|mR_f|mR_c|mR_r)"/ { gsub(/[ "]/, "", $1); value[$1] = $2 + 0 }
      /^  "/ { of_classes = /"classes"/ }  # the bins of "calibration" count detections as well
      of_classes && /"detections":/ { found += $2 }
      END {
        split(run, part, "[/.]")
        printf "%s %s %s %s %.5f %.5f %.5f %.5f %.5f %.5f %.5f %d\n", part[1], part[2], part[3], part[4], value["mAP"],
          value["AP_f"], value["AP_c"], value["AP_r"], value["mR_f"], value["mR_c"], value["mR_r"], found
      }' "$file"
  done
}

for stage in "${stages[@]}"; do
  case "$stage" in
    data)
      "$bin/synthesize" --config configs/smears_v2.yaml --output "$out/data" ${sets[@]+"${sets[@]}"}
      "$bin/synthesize" --config configs/head_classes.yaml --output "$out/head_classes" ${sets[@]+"${sets[@]}"}
      ;;
    start)
      if [ ! -e "$out/backbone.safetensors" ]; then
        "$bin/train" --config configs/head_classes.yaml "${common[@]}" --work-dir "$out/start" --resume --stopped-code 75 \
          "data.root=$out/head_classes" train.evaluate_every=0 "runtime.precision=$precision" ${sets[@]+"${sets[@]}"} > "$out/start.txt" 2>&1 ||
          { tail -n 3 "$out/start.txt" >&2 && exit 1; }
        "$bin/evaluate" --checkpoint "$out/start" "${common[@]}" > "$out/start_metrics.txt"
        cp "$(find "$out/start/checkpoints" -name '*.safetensors' | sort | tail -n 1)" "$out/backbone.safetensors"
      fi
      ;;
    search) run_all < <(list_search) ;;
    choose) choose ;;
    final) need_chosen && run_all < <(list_chosen final 5) ;;
    scratch)
      need_chosen
      run_all < <(list_chosen scratch 5 train.pretrained= model.backbone.norm_eval=false model.backbone.frozen_stages=-1)
      ;;
    longer | longer2 | longer4)
      need_chosen
      if [ "$stage" != longer4 ]; then run_all < <(list_chosen longer2 3 schedule.epochs=16 'schedule.steps=[12,14]'); fi
      if [ "$stage" != longer2 ]; then run_all < <(list_chosen longer4 3 schedule.epochs=32 'schedule.steps=[24,28]'); fi
      ;;
    real)
      need_chosen
      if [ -n "$chula" ]; then run_all < <(list_chosen chula 3); fi
      if [ -n "$bccd" ]; then run_all < <(list_chosen bccd 3); fi
      ;;
    table)
      collect > "$out/results.txt"
      awk -f scripts/compare_losses.awk "$out/results.txt"
      find "$out/runs" -name diverged.txt | sort | sed -E "s|^$out/runs/(.*)/diverged.txt|diverged, and in no mean above: \1|"
      ;;
  esac
done
exit "$incomplete"
