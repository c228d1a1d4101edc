# SPDX-License-Identifier: MIT
# Means and spreads over seeds of every phase and loss, and differences to cross-entropy paired by seed with 95 %
# intervals (Student's t). Input: the lines of compare_losses.sh's `collect`. A loss has one setting in a phase: a mean
# over two would be of neither.
BEGIN {
  split("12.706 4.303 3.182 2.776 2.571 2.447 2.365 2.306 2.262", t, " ")  # by degrees of freedom
  split("mAP AP_f AP_c AP_r mR_f mR_c mR_r", names, " ")
}
$1 != "search" {
  phases[$1] = 1
  key = $1 " " $2
  if (!(key in n)) { order[++kinds] = key; setting[key] = $3 }
  if ($3 != setting[key]) {
    printf "%s: there are runs of %s with setting %s and with setting %s: move those of one away (runs/%s/%s.%s.*)\n",
      $1, $2, setting[key], $3, $1, $2, setting[key] > "/dev/stderr"
    refused = 1
    exit 1
  }
  n[key]++
  for (i = 1; i <= 7; ++i) { value[key, $4, i] = $(i + 4); sum[key, i] += $(i + 4); square[key, i] += $(i + 4) ^ 2 }
  found[key] += $12
  seeds[$1, $4] = 1
}
END {
  if (refused) exit 1
  for (k = 1; k <= kinds; ++k) {
    split(order[k], word, " ")
    if (word[1] != phase) {
      phase = word[1]
      printf "\n%s\n\n| loss | seeds | mAP@0.5 | AP_f | AP_c | AP_r | mR_f | mR_c | mR_r | detections |\n", phase
      print "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    }
    key = order[k]
    printf "| %s | %d |", word[2], n[key]
    for (i = 1; i <= 7; ++i) {
      mean = sum[key, i] / n[key]
      spread = n[key] > 1 ? sqrt(max(0, (square[key, i] - n[key] * mean ^ 2) / (n[key] - 1))) : 0
      printf " %.1f ± %.1f |", 100 * mean, 100 * spread
    }
    printf " %d |\n", found[key] / n[key]
    if (k == kinds || split(order[k + 1], next_word, " ") && next_word[1] != phase) differences(phase)
  }
}
function max(a, b) { return a > b ? a : b }
function differences(phase,   k, word, i, s, d, count, total, squares, mean, half, pair, base) {
  base = phase " cross_entropy"
  for (k = 1; k <= kinds; ++k) {
    split(order[k], word, " ")
    if (word[1] != phase || word[2] == "cross_entropy") continue
    printf "| %s - cross_entropy | |", word[2]
    for (i = 1; i <= 7; ++i) {
      count = total = squares = 0
      for (s in seeds) {
        split(s, pair, SUBSEP)
        if (pair[1] != phase || !((order[k], pair[2], i) in value) || !((base, pair[2], i) in value)) continue
        d = value[order[k], pair[2], i] - value[base, pair[2], i]
        ++count; total += d; squares += d * d
      }
      if (count < 2) { printf " - |"; continue }
      mean = total / count
      half = t[count - 1] * sqrt(max(0, (squares - count * mean ^ 2) / (count - 1)) / count)
      printf " %+.1f (%+.1f to %+.1f) |", 100 * mean, 100 * (mean - half), 100 * (mean + half)
    }
    print " |"
  }
}
