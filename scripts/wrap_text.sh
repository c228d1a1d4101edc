#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Wraps comments and Markdown at the 120 columns of the code, or lists what is wider.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/wrap_text.sh [--check] FILE...
  FILE      Markdown, C++ and CUDA, shell, CMake, YAML, Python: by its name
  --check   changes nothing; prints file:line: what is wider than 120 columns; exit status 1 if something is
Only lines that are too wide are broken, and what they push out goes in front of the next line of their paragraph. Left as they are:
tables, code, headings, images, and in comments whatever is indented or has columns of its own. Of those, --check names the ones
in comments, which have to be broken by hand; code and `links` are never broken.
TEXT
}

check=0 files=()
while [ $# -gt 0 ]; do
  case "$1" in
    --check) check=1 ;;
    -h | --help) usage && exit 0 ;;
    -*) usage >&2 && exit 2 ;;
    *) files+=("$1") ;;
  esac
  shift
done
if [ ${#files[@]} -eq 0 ]; then usage >&2 && exit 2; fi

# What a file's text is: md, comments behind // or behind #.
kind_of() {
  case "$1" in
    *.md) echo md ;;
    *.h | *.cpp | *.cu | *.cuh) echo slash ;;
    *.sh | *.cmake | *CMakeLists.txt | *.yaml | *.yml | *.py | .ci/run | */.ci/run | *.clang-format | *.clang-tidy | *.editorconfig | *.cff) echo hash ;;
  esac
}

scratch=$(mktemp)
trap 'rm -f "$scratch"' EXIT
found=0
for file in "${files[@]}"; do
  kind=$(kind_of "$file")
  if [ -z "$kind" ]; then continue; fi
  # Bytes, whatever the awk: width() counts characters of UTF-8 itself.
  LC_ALL=C awk -v kind="$kind" -v check="$check" -v name="$file" -v limit=120 '
    function width(s) { gsub(/[\200-\277]/, "", s); return length(s) }

    # The position of the last space at which prefix + s may be broken, 0 if there is none: as far right as the limit
    # allows, else the first one. Not inside `code` or [links](of.md), nor before what would begin a list, a heading or
    # a table there.
    function break_at(prefix, s,    i, c, code, square, round, best, room) {
      room = limit - width(prefix)
      for (i = 1; i <= length(s); ++i) {
        c = substr(s, i, 1)
        if (c == "`") code = !code
        if (code) continue
        if (c == "[") ++square
        if (c == "]" && square) --square
        if (c == "(" && i > 1 && substr(s, i - 1, 1) == "]") round = 1
        if (c == ")") round = 0
        if (c != " " || square || round || i == 1) continue
        if (kind == "md" && substr(s, i + 1) ~ /^([-+*#>|=]|[0-9]+[.)])( |$)/) continue
        if (width(substr(s, 1, i - 1)) > room) return best ? best : i
        best = i
      }
      return width(s) > room ? best : 0
    }

    function emit(s) { out[++lines] = s }

    # Lines first..last are a paragraph; their prefixes are in lead[], their texts in body[].
    function paragraph(first, last,    i, s, p, at, carry, wide) {
      for (i = first; i <= last; ++i) if (width(line[i]) > limit) wide = 1
      if (!wide) { for (i = first; i <= last; ++i) emit(line[i]); return }
      carry = ""
      for (i = first; i <= last; ++i) {
        s = carry == "" ? body[i] : carry " " body[i]
        p = lead[i]
        carry = ""
        while ((at = break_at(p, s)) && width(p s) > limit) {
          emit(p substr(s, 1, at - 1))
          if (check && width(line[i]) > limit) told[i] = 1
          s = substr(s, at + 1)
          p = i < last ? lead[i + 1] : hang
          if (i < last && width(p s) <= limit) { carry = s; s = ""; break }
        }
        if (s != "") emit(p s)
      }
    }

    { line[NR] = $0 }

    END {
      if (kind == "md") markdown(); else comments(kind == "slash" ? "//" : "#")
      if (check) {
        for (i = 1; i <= NR; ++i) if (told[i]) printf "%s:%d: %d columns\n", name, i, width(line[i])
      } else {
        for (i = 1; i <= lines; ++i) print out[i]
      }
    }

    function markdown(    i, first, fenced, indented, s, mark) {
      for (i = 1; i <= NR; ++i) {
        s = line[i]
        if (s ~ /^ *```/) fenced = !fenced
        indented = s ~ /^    / && !in_list && (indented || line[i - 1] ~ /^ *$/)
        if (fenced || indented || s ~ /^ *(```|$|[|<>]|!\[|#+ )/) {
          if (s ~ /^[^ ]/) in_list = 0
          emit(s)
          continue
        }
        first = i
        for (;; ++i) {
          match(line[i], /^ *(([-*+]|[0-9]+[.)]) +)?/)
          mark = RLENGTH
          lead[i] = substr(line[i], 1, mark)
          body[i] = substr(line[i], mark + 1)
          if (i == first) {
            in_list = lead[i] ~ /[^ ]/ || (in_list && line[i] ~ /^ /)
            hang = sprintf("%" mark "s", "")
          }
          if (i == NR || line[i] ~ /(  |\\)$/) break
          if (line[i + 1] ~ /^ *(```|$|[|<>]|!\[|#+ |[-*+] |[0-9]+[.)] )/) break
        }
        paragraph(first, i)
      }
    }

    # Consecutive lines that hold a comment and nothing else, at one depth, with one space behind the mark.
    function comments(mark,    i, first, p) {
      p = "^[ \t]*" mark " "
      for (i = 1; i <= NR; ++i) {
        if (!is_prose(i, p, mark)) {
          if (check && width(line[i]) > limit && is_comment(i, mark)) told[i] = 1
          emit(line[i])
          continue
        }
        first = i
        for (;; ++i) {
          match(line[i], p)
          lead[i] = substr(line[i], 1, RLENGTH)
          body[i] = substr(line[i], RLENGTH + 1)
          hang = lead[i]
          if (i == NR || !is_prose(i + 1, p, mark)) break
          match(line[i + 1], p)
          if (RLENGTH != length(lead[i]) || substr(line[i + 1], RLENGTH + 1) ~ /^([-*]|[0-9]+[.)]) /) break
        }
        if (body[first] ~ /^([-*]|[0-9]+[.)]) /) hang = hang "  "
        paragraph(first, i)
      }
    }
    function is_prose(i, p, mark,    text) {
      text = line[i]
      if (!sub(p, "", text)) return 0
      return text !~ /^ |  |^$|^(SPDX-|shellcheck |clang-format |NOLINT|---)/
    }
    # A comment of its own or behind code. What looks like one within a string: a URL.
    function is_comment(i, mark) {
      if (line[i] ~ "^[ \t]*" mark) return line[i] !~ /^[^ ]* *[^ ]+$/
      return mark == "//" && line[i] ~ /[^:]\/\/ /
    }
  ' "$file" > "$scratch"
  if [ "$check" = 1 ]; then
    if [ -s "$scratch" ]; then cat "$scratch" && found=1; fi
  elif ! cmp -s "$scratch" "$file"; then
    copy=$(mktemp "$file.XXXXXX")
    cp -p "$file" "$copy" && cat "$scratch" > "$copy" && mv "$copy" "$file"
    echo "wrapped $file"
  fi
done
exit "$found"
