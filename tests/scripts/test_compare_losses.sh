#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# scripts/compare_losses.sh at its smallest: all stages, a second call that does nothing again, and the table's
# arithmetic.
# usage: test_compare_losses.sh BIN    the folder of the built programs
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
bin=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
fail() { echo "FAILED: $1" && failures=$((failures + 1)); }

compare() {
  scripts/compare_losses.sh --bin "$bin" --out "$work/out" --device cpu --jobs 2 --losses "cross_entropy grad_libra" --settings 1 \
    --search-seeds 1 --seeds 2 --set synthesize.train=8 --set synthesize.val=2 --set synthesize.test=2 --set schedule.epochs=1 \
    --set data.missing_class=allow \
    --set 'schedule.steps=[0]' --set schedule.warmup_iterations=1 --set model.test.score_threshold=0 "$@" > "$work/out.txt" 2>&1
}

compare final && fail "final without chosen settings"
grep -q "run the stages search and choose first" "$work/out.txt" || fail "no word of what is missing: $(cat "$work/out.txt")"
compare data real && fail "real cells without a folder"
grep -q "stage real: needs --chula DIR or --bccd DIR" "$work/out.txt" || fail "no word of the folders: $(cat "$work/out.txt")"
compare --losses "cross_entropy nobody" data && fail "a loss that is not there"
grep -q "there is no nobody" "$work/out.txt" || fail "no word of the loss: $(cat "$work/out.txt")"
[ ! -e "$work/out/data" ] || fail "a stage was done before the command line was refused"
compare data start search choose final table || fail "$(cat "$work/out.txt")"
grep -q '^| grad_libra | 2 | ' "$work/out.txt" || fail "no row: $(cat "$work/out.txt")"
grep -q '^| grad_libra - cross_entropy | | ' "$work/out.txt" || fail "no difference: $(cat "$work/out.txt")"
[ "$(wc -l < "$work/out/results.txt")" -eq 6 ] || fail "runs: $(cat "$work/out/results.txt")"
cmp -s <(sed 's/train.seed.*//' "$work/out/runs/final/grad_libra.1.11/config.yaml" | grep -c 'type: grad_libra') <(echo 1) ||
  fail "the run's configuration has another loss"
found=$(grep -o '"category_id"' "$work/out/runs/final/grad_libra.1.11/detections.json" | wc -l)
[ "$found" = "$(sed -n 's/^final grad_libra 1 11 .* //p' "$work/out/results.txt")" ] || fail "not $found detections: $(cat "$work/out/results.txt")"
# Every setting of every loss is a configuration, and no two of a loss are the same.
# shellcheck source=/dev/null
. <(sed -n '/^alphas() {/,/^}/p' scripts/compare_losses.sh)
for loss in cross_entropy focal grad_libra focal_plain class_balanced eqlv2 seesaw bags_g2 bags_g3; do
  [ "$(settings "$loss" | sort -u | wc -l)" -eq 8 ] || fail "not eight settings of $loss"
  while read -r _ setting; do
    # shellcheck disable=SC2086  # the words of the line are the arguments
    "$bin/inspect" config --config configs/smears_v2.yaml $setting > /dev/null || fail "$loss: $setting"
  done < <(settings "$loss")
done
compare --losses bags_g2 search || fail "bags_g2: $(cat "$work/out.txt")"
grep -q 'foreground_normalizer: rows' "$work/out/runs/search/bags_g2.1.1/config.yaml" || fail "not BAGS' setting"
rm -r "$work/out/runs/search/bags_g2.1.1"
before=$(find "$work/out/runs" -name metrics.json -printf '%p %T@\n' | sort)
compare --only-seeds 12 longer2 || fail "one seed, twice the epochs: $(cat "$work/out.txt")"
runs=$(cd "$work/out/runs" && echo longer*/*)
[ "$runs" = "longer2/cross_entropy.1.12 longer2/grad_libra.1.12" ] || fail "not the two of seed 12: $runs"
rm -r "$work/out/runs/longer2"
compare --only-seeds "12 15" longer2 && fail "seed 15 of two was taken"
grep -q "no seed 15: there are 11 12" "$work/out.txt" || fail "seed 15: $(cat "$work/out.txt")"
compare search choose final || fail "again: $(cat "$work/out.txt")"
[ "$before" = "$(find "$work/out/runs" -name metrics.json -printf '%p %T@\n' | sort)" ] || fail "runs were done again"

# Two losses whose mAP differ by 2, 4 and 3 points: 3 with a half-width of 4.303 * 1 / sqrt(3) = 2.5.
for seed in 1 2 3; do
  echo "final cross_entropy 1 $seed 0.$((40 + seed)) 0.5 0.5 0.5 0.5 0.5 0.5 10"
done > "$work/lines.txt"
printf 'final grad_libra 1 %s 0.%s 0.5 0.5 0.5 0.5 0.5 0.5 30\n' 1 43 2 46 3 46 >> "$work/lines.txt"
table=$(awk -f scripts/compare_losses.awk "$work/lines.txt")
grep -q '| grad_libra - cross_entropy | | +3.0 (+0.5 to +5.5) | +0.0 (+0.0 to +0.0)' <<< "$table" || fail "differences: $table"
grep -q '| cross_entropy | 3 | 42.0 ± 1.0 | .* | 10 |' <<< "$table" || fail "means: $table"

# Two settings of one loss, as after another choice: a mean over both would be of neither.
echo "final grad_libra 5 4 0.9 0.5 0.5 0.5 0.5 0.5 0.5 30" >> "$work/lines.txt"
if table=$(awk -f scripts/compare_losses.awk "$work/lines.txt" 2>&1); then fail "settings mixed: $table"; fi
[ "$table" = "final: there are runs of grad_libra with setting 1 and with setting 5: move those of one away (runs/final/grad_libra.1.*)" ] ||
  fail "two settings: $table"
sed -i '/grad_libra 5/d' "$work/lines.txt"
echo "search grad_libra 5 4 0.9 0.5 0.5 0.5 0.5 0.5 0.5 30" >> "$work/lines.txt"
awk -f scripts/compare_losses.awk "$work/lines.txt" > "$work/table.txt" || fail "the search has more than one setting"

# A choice needs every seed of every setting: setting 2 has had one, a lucky one, and 3 was not asked for.
result() { mkdir -p "$1" && printf '{\n  "mAP": %s,\n}\n' "$2" > "$1/metrics.json"; }
choose() { scripts/compare_losses.sh --out "$work/few" --losses focal --settings 2 choose > "$work/out.txt" 2>&1; }
for run in "1.1 0.4" "1.2 0.5" "2.1 0.7" "3.1 0.9"; do result "$work/few/runs/search/focal.${run% *}" "${run#* }"; done
echo "seesaw 4" > "$work/few/chosen.txt"
choose && fail "one seed was enough: $(cat "$work/few/chosen.txt")"
grep -q "run the stage search again" "$work/out.txt" || fail "no word of what to do: $(cat "$work/out.txt")"
[ "$(grep '^search/' "$work/out.txt")" = search/focal.2.2 ] ||
  fail "not the missing one alone: $(cat "$work/out.txt")"
[ "$(cat "$work/few/chosen.txt")" = "seesaw 4" ] || fail "chosen all the same: $(cat "$work/few/chosen.txt")"
result "$work/few/runs/search/focal.2.2" 0.1
choose || fail "all there: $(cat "$work/out.txt")"
[ "$(cat "$work/few/chosen.txt")" = $'seesaw 4\nfocal 1' ] || fail "not the better mean: $(cat "$work/few/chosen.txt")"

# A run that diverged has ended; its setting is not chosen, whatever its other seed has.
rm -r "$work/few/runs/search/focal.2.2" && mkdir "$work/few/runs/search/focal.2.2" && echo nan > "$work/few/runs/search/focal.2.2/diverged.txt"
choose || fail "one diverged: $(cat "$work/out.txt")"
[ "$(cat "$work/few/chosen.txt")" = $'seesaw 4\nfocal 1' ] || fail "a setting that diverged: $(cat "$work/few/chosen.txt")"
[ "$(cat "$work/few/search.txt")" = $'focal 1 0.45000 2\nfocal 2 diverged 1' ] || fail "search: $(cat "$work/few/search.txt")"
cp -r "$work/few/runs/search/focal.2.2/diverged.txt" "$work/few/runs/search/focal.1.1/" && rm "$work/few/runs/search/focal.1.1/metrics.json"
choose && fail "every setting diverged"
grep -q "every setting of focal diverged" "$work/out.txt" || fail "no word of it: $(cat "$work/out.txt")"

# Runs that fail or find no time make exit code 1, at the end; the stages that need them are not begun. The programs are
# stand-ins that write what a run keeps: training fails for seed 2 where $work/broken is there, diverges where
# $work/diverging is, and takes its time where $work/slow is.
mkdir "$work/bin"
cat > "$work/bin/train" <<TEXT
#!/usr/bin/env bash
while [ \$# -gt 0 ]; do
  if [ "\$1" = --work-dir ]; then folder=\$2; fi
  if [ "\$1" = train.seed=2 ] && [ -e "$work/broken" ]; then echo "no memory" >&2 && exit 1; fi
  if [ "\$1" = train.seed=2 ] && [ -e "$work/diverging" ]; then mkdir -p "\$folder" && echo "loss_cls is nan" >&2 && exit 3; fi
  shift
done
if [ -e "$work/slow" ]; then sleep 2.2; fi
mkdir -p "\$folder/checkpoints" && touch "\$folder/log.jsonl" "\$folder/config.yaml" "\$folder/checkpoints/1.safetensors"
TEXT
cat > "$work/bin/evaluate" <<'TEXT'
#!/usr/bin/env bash
while [ "$1" != --output ]; do shift; done
mkdir -p "$2" && touch "$2/detections.json" && printf '{\n  "mAP": 0.5,\n}\n' > "$2/metrics.json"
TEXT
chmod +x "$work/bin/train" "$work/bin/evaluate"
with_stand_ins() {
  scripts/compare_losses.sh --bin "$work/bin" --out "$work/stand" --losses cross_entropy --settings 1 --seeds 2 "$@" > "$work/out.txt" 2>&1
}
runs_of() { (cd "$work/stand/runs" && echo "$1"/*/metrics.json); }
touch "$work/broken"
with_stand_ins search choose final && fail "a failed run: exit code 0"
grep -q 'search/cross_entropy.1.2 failed: .*no memory' "$work/out.txt" || fail "the failed run is not named: $(cat "$work/out.txt")"
grep -q '^search: 1 of 2 runs failed or were left out' "$work/out.txt" || fail "not counted: $(cat "$work/out.txt")"
[ "$(runs_of search)" = search/cross_entropy.1.1/metrics.json ] || fail "what was computed: $(runs_of search)"
[ ! -e "$work/stand/runs/final" ] || fail "final was begun without a choice"
rm "$work/broken"
cp -r "$work/stand" "$work/stand_before" && touch "$work/diverging"
with_stand_ins search || fail "a run that diverged has ended: $(cat "$work/out.txt")"
grep -q 'search/cross_entropy.1.2 diverged: loss_cls is nan' "$work/out.txt" || fail "not named: $(cat "$work/out.txt")"
with_stand_ins search table || fail "again: $(cat "$work/out.txt")"
[ "$(grep diverged "$work/out.txt")" = "diverged, and in no mean above: search/cross_entropy.1.2" ] || fail "table: $(cat "$work/out.txt")"
rm -r "$work/diverging" "$work/stand" && mv "$work/stand_before" "$work/stand"
with_stand_ins search choose || fail "the cause mended: $(cat "$work/out.txt")"
touch "$work/slow"
with_stand_ins --jobs 1 --seconds 2 final table && fail "a run was left out for lack of time: exit code 0"
[ "$(runs_of final)" = final/cross_entropy.1.11/metrics.json ] || fail "not the first alone: $(runs_of final)"
grep -q '^| cross_entropy | 1 | 50.0' "$work/out.txt" || fail "the stage behind it was not done: $(cat "$work/out.txt")"
with_stand_ins --only-seeds 12 final || fail "the rest: $(cat "$work/out.txt")"
[ "$(runs_of final | wc -w)" -eq 2 ] || fail "not both: $(runs_of final)"

[ "$failures" -eq 0 ] && echo "passed"
exit "$((failures > 0))"
