#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# scripts/lint.sh and scripts/wrap_text.sh: what is planted is found, what was there before a change is not.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
for tool in git clang-format clang-tidy shellcheck; do
  if ! command -v "$tool" > /dev/null; then echo "skipped: $tool is not installed" && exit 77; fi
done
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
fail() { echo "FAILED: $1" && failures=$((failures + 1)); }
long="a line of words that goes on and on, wider than the hundred and twenty columns that the code has, and so has to be broken"

# --- wrap_text: what is broken where, and what is left alone ---

cat > "$work/text.md" <<TEXT
- first item: $long in its text
  and goes on here

| table | $long in a cell |
| --- | --- |

    code, $long by four spaces
    more code, $long behind it

\`\`\`
fenced $long in a block
\`\`\`

µµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµµ of two bytes each, and this line is no wider than 120
Here the words end before the span \`that holds a long command line with --options\` and [a link of words](to/some/where.md).
At the end of this line there is a number, which at the beginning of the next would make a list of what follows it: at
TEXT
cat > "$work/text.cpp" <<TEXT
// $long as prose.
// The next line of the same paragraph.
//
// $long before a table:
//   table  $long of columns
int x;  // $long behind code
TEXT
cp "$work/text.md" "$work/before.md"
scripts/wrap_text.sh "$work/text.md" "$work/text.cpp" > /dev/null
cat > "$work/expected.cpp" <<TEXT
// a line of words that goes on and on, wider than the hundred and twenty columns that the code has, and so has to be
// broken as prose. The next line of the same paragraph.
//
// a line of words that goes on and on, wider than the hundred and twenty columns that the code has, and so has to be
// broken before a table:
//   table  $long of columns
int x;  // $long behind code
TEXT
diff "$work/expected.cpp" "$work/text.cpp" || fail "wrapped comments"
cat > "$work/expected_item.md" <<'TEXT'
- first item: a line of words that goes on and on, wider than the hundred and twenty columns that the code has, and so
  has to be broken in its text and goes on here
TEXT
diff "$work/expected_item.md" <(head -n 2 "$work/text.md") || fail "wrapped list"
grep -q '^    more code, .* behind it$' "$work/text.md" || fail "code was wrapped"
grep -q '^| table .* in a cell |$' "$work/text.md" || fail "a table was wrapped"
grep -q '`that holds a long command line with --options`' "$work/text.md" || fail "a span of code was broken"
grep -q '^µ.* no wider than 120$' "$work/text.md" || fail "columns were counted in bytes"
words_of() { grep -oE '[^ ]+' "$1"; }
diff <(words_of "$work/before.md") <(words_of "$work/text.md") || fail "words were changed"
cp "$work/text.md" "$work/again.md"
scripts/wrap_text.sh "$work/again.md" > /dev/null
cmp "$work/again.md" "$work/text.md" || fail "wrapping twice is not wrapping once"
scripts/wrap_text.sh --check "$work/text.cpp" > "$work/out.txt" && fail "--check found nothing"
[ "$(cut -d : -f 2 "$work/out.txt" | paste -sd ' ')" = "6 7" ] || fail "--check: $(cat "$work/out.txt")"
scripts/wrap_text.sh --check "$work/text.md" || fail "--check after wrapping"

# --- lint: a small project of its own ---

project=$work/project
mkdir -p "$project"/{scripts,kernels,build/release}
cp scripts/lint.sh scripts/wrap_text.sh "$project/scripts/"
cp .clang-format .clang-tidy .gitignore .shellcheckrc "$project/"
cd "$project" || exit 1
printf '// %s from of old\nint old_wide() { return 1; }\nint   old_layout();\nint OldName() { return 2; }\n' "$long" > kernels/a.cpp
printf '#!/bin/bash\necho fine\n' > scripts/b.sh
cat > build/release/compile_commands.json <<TEXT
[
{
  "directory": "$project",
  "command": "/usr/bin/c++ -std=c++20 -Werror -o a.o -c $project/kernels/a.cpp",
  "file": "$project/kernels/a.cpp"
}
]
TEXT
git_here() { git -c user.name=test -c user.email=test@example.com "$@" > /dev/null 2>&1; }
{
  git_here init -b main . && git_here add -A && git_here commit -m "Before" && git_here commit --allow-empty -m "Between"
} || fail "git"

# lint STATUS OPTION..: runs it here, and wants that exit status.
lint() {
  local expected=$1 status=0
  shift
  scripts/lint.sh "$@" > "$work/out.txt" 2>&1 || status=$?
  [ "$status" = "$expected" ] || fail "lint.sh $*: status $status instead of $expected: $(cat "$work/out.txt")"
}
wants() { grep -qE -- "$1" "$work/out.txt" || fail "no '$1' in: $(cat "$work/out.txt")"; }
wants_no() { ! grep -qE -- "$1" "$work/out.txt" || fail "'$1' in: $(cat "$work/out.txt")"; }

lint 1
wants 'kernels/a.cpp:1: 1[0-9][0-9] columns'
wants 'kernels/a.cpp:3:4: warning: code should be clang-formatted' # clang-format's own words
wants "kernels/a.cpp:4:5: .*'OldName'"
lint 0 --changed
wants 'clean'

printf '// %s of today\nint   new_layout();\nint NewName() { return 3; }\n' "$long" >> kernels/a.cpp
# shellcheck disable=SC2016
printf '#!/bin/bash\nread name\necho $name\n' > scripts/b.sh
lint 1 --changed
wants 'kernels/a.cpp:5: 1[0-9][0-9] columns'
wants 'kernels/a.cpp:6:4: warning: code should be clang-formatted'
wants "kernels/a.cpp:7:5: .*'NewName'"
wants 'scripts/b.sh:3:.*SC2086'
wants_no 'kernels/a.cpp:[1-4]:'
wants 'clang-tidy: 1 sources, 1 findings'
lint 1 --changed HEAD --no-tidy
wants_no NewName
lint 1 --changed --fix --no-tidy
wants_no 'columns|clang-formatted'
grep -q '^int   old_layout' kernels/a.cpp || fail "--changed --fix mended an old line"
lint 1 --fix
wants_no 'clang-formatted'
git_here checkout -- . || fail "git"

# No time: said, and no finding.
printf 'int NewName() { return 3; }\n' >> kernels/a.cpp
cat > "$work/clang-tidy" <<'TEXT'
#!/bin/bash
if [ "$1" = --version ]; then echo "LLVM version 14.0.6" && exit; fi
sleep 30
TEXT
chmod +x "$work/clang-tidy"
PATH=$work:$PATH lint 0 --changed --limit 1
wants 'left out, for want of time \(--limit 1\): 1 of 1 sources: kernels/a.cpp$'
git_here checkout -- . || fail "git"

# In which order: small changes of sources, large ones, then what stands for a header: its own source, or one that
# includes it.
cat > "$work/clang-tidy" <<'TEXT'
#!/bin/bash
if [ "$1" = --version ]; then echo "LLVM version 14.0.6" && exit; fi
echo "${@: -1}" >> "$TIDY_ORDER"
TEXT
export TIDY_ORDER=$work/order.txt
printf 'int value();\n' > kernels/c.h
printf 'int constant();\n' > kernels/d.h
printf '#include "kernels/c.h"\n#include "kernels/d.h"\nint value() { return 1; }\n' > kernels/c.cpp
printf '#include "kernels/d.h"\nint user() { return 1; }\n' > kernels/user.cpp
git_here add -A
{
  echo '['
  for name in a c user; do
    printf '{\n  "directory": "%s",\n' "$project"
    printf '  "command": "/usr/bin/c++ -std=c++20 -I%s -o x.o -c %s/kernels/%s.cpp",\n' "$project" "$project" $name
    printf '  "file": "%s/kernels/%s.cpp"\n}' "$project" $name
    if [ $name = user ]; then printf '\n'; else printf ',\n'; fi
  done
  echo ']'
} > build/release/compile_commands.json
git_here commit -m "More files" || fail "git"
printf 'int more();\n' | tee -a kernels/c.h >> kernels/d.h
printf 'int one();\nint two();\n' >> kernels/a.cpp
PATH=$work:$PATH lint 0 --changed HEAD --jobs 1
[ "$(paste -sd ' ' "$TIDY_ORDER")" = "kernels/a.cpp kernels/c.cpp kernels/user.cpp" ] || fail "order: $(cat "$TIDY_ORDER")"
printf 'int one();\n' >> kernels/user.cpp
rm "$TIDY_ORDER"
PATH=$work:$PATH lint 0 --changed HEAD --jobs 1
[ "$(paste -sd ' ' "$TIDY_ORDER")" = "kernels/user.cpp kernels/a.cpp kernels/c.cpp" ] || fail "order: $(cat "$TIDY_ORDER")"
git_here checkout -- . || fail "git"

# What a change is compared with: on the main branch the commit before, on another where it left the main branch; the
# same in a clone, on a branch that the clone has and without one.
base_is() { # base_is SUBJECT FOLDER
  (cd "$2" && scripts/lint.sh --changed --no-tidy > "$work/out.txt" 2>&1)
  wants "lines changed since [0-9a-f]+ \($1\)"
}
base_is "Between" .
git_here checkout -b side || fail "git"
for i in 1 2; do git_here commit --allow-empty -m "Side $i" || fail "git"; done
base_is "More files" .
git_here clone "file://$project" "$work/clone" || fail "git clone"
base_is "More files" "$work/clone" # on the branch `side`, of which the clone has no main branch but origin's
git_here -C "$work/clone" checkout --detach || fail "git"
base_is "More files" "$work/clone"
git_here -C "$work/clone" checkout --detach origin/main || fail "git"
base_is "Between" "$work/clone"
git_here checkout main || fail "git"
git_here merge --no-ff -m "Merge of side" side || fail "git"
base_is "More files" .

# A clone without history, and no repository at all.
git_here clone --depth 1 "file://$project" "$work/shallow" || fail "git clone"
cp "$root/scripts/lint.sh" "$work/shallow/scripts/"
(cd "$work/shallow" && scripts/lint.sh --changed > "$work/out.txt" 2>&1) && fail "the old layout was not found in a clone without history"
wants 'no commit to compare with'
wants_no 'columns'
rm -rf .git
lint 1 --changed --no-tidy
wants 'no commit to compare with'

# Missing tools are said, and are no finding.
mkdir "$work/few"
for tool in bash env git awk sed grep sort cut comm xargs cat mktemp rm mv cp cmp dirname nproc find tail head wc tr; do
  ln -s "$(command -v "$tool")" "$work/few/$tool"
done
PATH=$work/few lint 77 --changed --no-tidy
wants 'skipped, because something is missing: clang-format shellcheck'

for wrong in --nonsense '--changed nowhere'; do
  # shellcheck disable=SC2086
  scripts/lint.sh $wrong > /dev/null 2>&1
  [ $? -eq 2 ] || fail "$wrong: exit status"
done

[ "$failures" -eq 0 ] && echo "lint: all as expected"
