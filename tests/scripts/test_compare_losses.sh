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

[ "$failures" -eq 0 ] && echo "passed"
exit "$((failures > 0))"
