#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Layout, habits and widths: clang-format, shellcheck, the 120 columns of comments and Markdown, clang-tidy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: scripts/lint.sh [--changed [BASE]] [--fix] [--no-tidy] [--limit SECONDS] [--jobs N] [--build DIR]
  --changed [BASE]   only lines that differ from the commit BASE, in commits or not yet; scripts: whole files. Default: where this
                     branch left its upstream or the main branch, or the commit before the last where it is that branch. Without
                     history, everything but wide lines and clang-tidy is checked in all files
  --fix              mends layout and wraps wide lines first, then checks
  --no-tidy          without clang-tidy, which takes some seconds per source file
  --limit SECONDS    for clang-tidy: what it has not reached by then is left out, and named. With --changed, sources come before
                     those that stand for a header, and small changes first. Default: no limit
  --jobs N           files at a time; default: one per processor
  --build DIR        a build folder configured with Ninja, or with CMAKE_EXPORT_COMPILE_COMMANDS; default build/release
Exit status: 0 clean, 1 findings, 2 wrong use, 77 no finding, but a tool is missing (scripts/setup.sh --tests installs them).
Layout is judged by clang-format 14; another version's opinion is printed and not counted.
TEXT
}

changed=false base="" fix=false tidy=true limit=0 jobs=$(nproc) build=build/release
while [ $# -gt 0 ]; do
  case "$1" in
    --changed)
      changed=true
      if [ $# -gt 1 ] && [[ $2 != -* ]]; then base=$2 && shift; fi
      ;;
    --fix) fix=true ;;
    --no-tidy) tidy=false ;;
    --limit) limit=${2:?--limit needs seconds} && shift ;;
    --jobs) jobs=${2:?--jobs needs a number} && shift ;;
    --build) build=${2:?--build needs a folder} && shift ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
findings=0 missing=()
say() { printf 'lint: %s\n' "$*"; }
# The output of a check in a file: printed, and a finding if there is any.
finding() {
  if [ -s "$2" ]; then
    cat "$2"
    say "$1"
    findings=$((findings + 1))
  fi
}
has() {
  if command -v "$1" > /dev/null; then return 0; fi
  missing+=("$1")
  return 1
}

# --- which files, and which lines of them: $work/files, and $work/lines with "file first last" ---

in_git() { git rev-parse --is-inside-work-tree > /dev/null 2>&1; }
all_files() {
  if in_git; then
    git ls-files --cached --others --exclude-standard
  else
    find . -type f -not -path './build/*' -not -path './out/*' -not -path './third_party/.cache/*' | sed 's|^\./||'
  fi | sort -u | while IFS= read -r file; do if [ -f "$file" ]; then printf '%s\n' "$file"; fi; done
}

# Where to compare with: nothing is printed if there is no such commit. On the main branch itself, all that its last
# commit brought, which may be a merge.
default_base() {
  local head upstream fork
  head=$(git rev-parse --quiet --verify HEAD) || return 0
  for upstream in '@{upstream}' origin/HEAD origin/main main; do
    fork=$(git merge-base HEAD "$upstream" 2> /dev/null) || continue
    if [ "$fork" != "$head" ]; then echo "$fork" && return; fi
  done
  git rev-parse --quiet --verify 'HEAD^' || true
}

all_files > "$work/files"
everything=true  # all lines of the files are meant
if $changed; then
  if [ -n "$base" ]; then
    base=$(git rev-parse --quiet --verify "$base^{commit}") || { echo "lint: --changed: no such commit" >&2 && exit 2; }
  elif in_git; then
    base=$(default_base)
  fi
  if [ -n "$base" ]; then
    everything=false
    git -c core.quotepath=off diff --find-renames --unified=0 --no-color --no-ext-diff --diff-filter=d "$base" -- | awk '
      /^\+\+\+ / { file = substr($0, 7) }
      /^@@ / && split($3, range, /[+,]/) {
        count = range[3] == "" ? 1 : range[3]
        if (count > 0) print file "\t" range[2] "\t" range[2] + count - 1
      }' > "$work/lines"
    git ls-files --others --exclude-standard | while IFS= read -r file; do printf '%s\t1\t1000000000\n' "$file"; done >> "$work/lines"
    cut -f 1 "$work/lines" | sort -u | comm -12 - "$work/files" > "$work/changed"
    mv "$work/changed" "$work/files"
    say "lines changed since $(git log -1 --format='%h (%s)' "$base"), in $(wc -l < "$work/files") files"
  else
    tidy=false
    say "no commit to compare with: all files, but no wide lines and no clang-tidy"
  fi
fi
grep -E '\.(h|cpp|cu|cuh)$' "$work/files" > "$work/sources" || true
grep -E '\.sh$|^\.ci/run$' "$work/files" > "$work/scripts" || true

# --- widths ---

wide() {
  if ! $everything; then
    # Those of the lines "file:line: .." that were changed.
    awk -F '\t' 'NR == FNR { n[$1]++; first[$1, n[$1]] = $2; last[$1, n[$1]] = $3; next }
      { split($0, at, ":"); for (i = 1; i <= n[at[1]]; ++i) if (at[2] >= first[at[1], i] && at[2] <= last[at[1], i]) { print; break } }
    ' "$work/lines" -
  elif $changed; then
    cat > /dev/null
  else
    cat
  fi
}
if [ -s "$work/files" ]; then
  if $fix; then xargs -d '\n' scripts/wrap_text.sh < "$work/files"; fi
  { xargs -d '\n' scripts/wrap_text.sh --check < "$work/files" || true; } | wide > "$work/wide.txt"
  finding "lines wider than 120 columns; scripts/wrap_text.sh FILE wraps what can be wrapped" "$work/wide.txt"
fi

# --- layout ---

# clang-format's arguments for the changed lines of a file.
lines_of() { awk -F '\t' -v file="$1" '$1 == file && $3 < 1000000000 { printf "--lines=%d:%d\n", $2, $3 }' "$work/lines"; }
if [ -s "$work/sources" ] && has clang-format; then
  if $everything; then
    if $fix; then xargs -d '\n' clang-format -i < "$work/sources"; fi
    xargs -d '\n' clang-format --dry-run < "$work/sources" > "$work/format.txt" 2>&1 || true
  else
    while IFS= read -r file; do
      mapfile -t lines < <(lines_of "$file")
      if $fix; then clang-format -i "${lines[@]}" "$file"; fi
      clang-format --dry-run "${lines[@]}" "$file" >> "$work/format.txt" 2>&1 || true
    done < "$work/sources"
  fi
  version=$(clang-format --version | sed -E 's/.*version ([0-9]+).*/\1/')
  if [ "$version" = 14 ]; then
    finding "layout differs from .clang-format's; scripts/lint.sh --fix mends it" "$work/format.txt"
  else
    cat "$work/format.txt"
    say "clang-format here is version $version, not 14: what it says is not counted"
  fi
fi

# --- scripts ---

if [ -s "$work/scripts" ] && has shellcheck; then
  xargs -d '\n' shellcheck --external-sources --format=gcc < "$work/scripts" > "$work/shell.txt" || true
  finding "shellcheck" "$work/shell.txt"
fi

# --- habits ---

# Stands in for a header that clang has from 15 on only (std::source_location).
write_stand_in() {
  mkdir "$work/include"
  cat > "$work/include/source_location" <<'TEXT'
#pragma once
namespace std {
struct source_location {
  static constexpr source_location current() noexcept { return {}; }
  constexpr const char* file_name() const noexcept { return ""; }
  constexpr const char* function_name() const noexcept { return ""; }
  constexpr unsigned line() const noexcept { return 0; }
  constexpr unsigned column() const noexcept { return 0; }
};
}
TEXT
}

# One command for each source: the emulator's for CUDA sources, which is C++; without what only gcc or only this machine
# knows.
write_commands() {
  local include=""
  if [ "$(clang-tidy --version | sed -nE 's/.*version ([0-9]+).*/\1/p' | head -n 1)" -lt 15 ]; then
    write_stand_in
    include=" -isystem $work/include"
  fi
  awk -v include="$include" '
    /^\{/ { directory = command = file = "" }
    /"directory":/ { directory = $0 }
    /"command":/ { command = $0 }
    /"file":/ { file = $0; sub(/,$/, "", file) }
    /^\}/ {
      if ((file ~ /\.cu"/ && command !~ / -x c\+\+ /) || file in seen) next
      seen[file] = 1
      gsub(/ -Werror| -march=native/, "", command)
      sub(/ -c /, include " -c ", command)
      printf "%s{\n%s\n%s\n%s\n}", (n++ ? ",\n" : "[\n"), directory, command, file
    }
    END { print "\n]" }' "$build/compile_commands.json" > "$work/compile_commands.json"
}

# For a header: the sources of its name, or the shortest one that includes it; where only headers do, those of the
# first.
stand_ins() {
  local stem=${1%.*} found=false unit header
  for unit in "$stem.cpp" "$stem.cu"; do
    if grep -qxF "$unit" "$work/known"; then echo "$unit" && found=true; fi
  done
  if $found; then return; fi
  unit=$(xargs -d '\n' grep -lF "#include \"$1\"" < "$work/known" | xargs -d '\n' -r wc -l | grep -v ' total$' |
    sort -n | awk 'NR == 1 { print $2 }') || true
  if [ -n "$unit" ]; then echo "$unit" && return; fi
  header=$(git grep -lF "#include \"$1\"" -- '*.h' '*.cuh' | head -n 1) || true
  if [ -n "$header" ] && [ "$header" != "${2:-}" ]; then stand_ins "$header" "$1"; fi
}

# The sources to look at, of those that have a command here, in the order in which they are worth the time: changed
# ones before those that stand for a header, then small changes before large ones.
units() {
  sed -nE "s|^ *\"file\": \"$PWD/(.*)\"$|\1|p" "$work/compile_commands.json" | sort > "$work/known"
  if $everything; then cat "$work/known" && return; fi
  while IFS= read -r file; do
    # A file that git does not know yet is changed to its end.
    changed=$(awk -F '\t' -v file="$file" -v length_of="$(wc -l < "$file")" '
      $1 == file { n += ($3 < length_of ? $3 : length_of) - $2 + 1 } END { print n + 0 }' "$work/lines")
    if [[ $file != *.h && $file != *.cuh ]]; then
      printf '0\t%d\t%s\n' "$changed" "$file"
    else
      stand_ins "$file" | while IFS= read -r unit; do printf '1\t%d\t%s\n' "$changed" "$unit"; done
    fi
  done < "$work/sources" | sort -t $'\t' -k 1,1n -k 2,2n -k 3 | awk -F '\t' '
    NR == FNR { known[$0]; next }
    $3 in known && !seen[$3]++ { print $3 }' "$work/known" -
}

# What of a finding counts: the project's own headers, not the emulator's imitation of CUDA's; with --changed, changed
# lines.
# shellcheck disable=SC2001
own="^$(sed 's/[][\.*^$()+?{}|]/\\&/g' <<< "$PWD")/([a-su-z][a-z_]*/|tests/((e[^m]|[^e])[a-z_]*/|[a-z_]+[.]))"
line_filter() {
  awk -F '\t' '
    $1 ~ /\.(h|cpp|cu|cuh)$/ && $1 !~ /^tests\/emulator\// {
      if (!($1 in ranges)) names[++n] = $1
      ranges[$1] = ranges[$1] (ranges[$1] == "" ? "" : ",") "[" $2 "," $3 "]"
    }
    END {
      printf "["
      for (i = 1; i <= n; ++i) printf "%s{\"name\":\"/%s\",\"lines\":[%s]}", (i > 1 ? "," : ""), names[i], ranges[names[i]]
      print "]"
    }' "$work/lines"
}

# Run for each source by xargs, under the time that is left.
tidy_one() {
  local left=$((TIDY_DEADLINE - $(date +%s))) log filters=(--header-filter="$TIDY_OWN")
  if [ -n "$TIDY_LINES" ]; then filters+=(--line-filter="$TIDY_LINES"); fi
  log=$(mktemp "$TIDY_WORK/log.XXXXXX")
  if [ "$left" -le 0 ] ||
    ! timeout "$left" clang-tidy -p "$TIDY_WORK" --quiet "${filters[@]}" "$1" > "$log" 2> "$log.err"; then
    # timeout's 124, or what could not be parsed at all.
    if [ "$left" -le 0 ] || [ "$(date +%s)" -ge "$TIDY_DEADLINE" ]; then echo "$1" >> "$TIDY_WORK/left_out"; fi
  fi
}

if $tidy && [ -s "$work/sources" ] && has clang-tidy; then
  if [ ! -f "$build/compile_commands.json" ]; then
    say "no clang-tidy: $build/compile_commands.json is not there (scripts/build.sh makes it; --build names another folder)"
    missing+=("a configured build")
  else
    write_commands
    units > "$work/units"
    TIDY_WORK=$work TIDY_OWN=$own TIDY_LINES=$($everything || line_filter) TIDY_DEADLINE=$(($(date +%s) + (limit > 0 ? limit : 1000000)))
    export TIDY_WORK TIDY_OWN TIDY_LINES TIDY_DEADLINE
    export -f tidy_one
    # shellcheck disable=SC2016
    xargs -d '\n' -r -P "$jobs" -n 1 bash -c 'tidy_one "$0"' < "$work/units"
    # A header's findings come with every source that includes it.
    { cat "$work"/log.?????? 2> /dev/null || true; } | awk '
      /^[^ ].*: (warning|error): / { shown = !seen[$0]++; count += shown }
      shown' | sed "s|^$PWD/||" > "$work/tidy.txt"
    count=$(grep -cE '^[^ ].*: (warning|error): ' "$work/tidy.txt" || true)
    say "clang-tidy: $(wc -l < "$work/units") sources, $count findings"
    finding ".clang-tidy says why each check is on" "$work/tidy.txt"
    if [ -s "$work/left_out" ]; then
      say "clang-tidy left out, for want of time (--limit $limit): $(wc -l < "$work/left_out") of $(wc -l < "$work/units") sources:" \
        "$(sort "$work/left_out" | paste -sd ' ')"
    fi
  fi
fi

if [ "$findings" -gt 0 ]; then exit 1; fi
if [ ${#missing[@]} -gt 0 ]; then
  say "skipped, because something is missing: ${missing[*]} (scripts/setup.sh --tests)"
  exit 77
fi
say "clean"
