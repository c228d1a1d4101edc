#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Checks that what the documentation names exists: files, programs and scripts with their subcommands and flags,
# configuration keys, kernels, identifiers. Read are `spans`, command lines in blocks of code, YAML blocks, and links;
# and in comments of sources the names of files.
set -euo pipefail
# Ranges such as [a-z] are those of ASCII.
export LC_ALL=C

usage() {
  cat <<'TEXT'
usage: tests/check_docs.sh [--root ROOT] BIN   check README.md, CONTRIBUTING.md, SECURITY.md, docs/*.md and each folder's README.md under ROOT
                                               (default: this checkout), and the comments of the sources; BIN is the folder of the built programs
       tests/check_docs.sh --self-test         check that wrong names are found
Exit status: 0 clean, 1 wrong names (listed as file:line), 2 wrong use.
TEXT
}

# Names of other projects, and of what users have: everything else must be found here.
foreign="
  nsys nsys-ui ncu ncu-ui perf nvcc ldd SpeedOfLight ERR_NVGPUCTRPERM DNNL_VERBOSE libdnnl wgmma state_dict model_state_dict DataParallel
  safetensors.torch python3-torch embedding_bag cudnn.benchmark torch.compile open-mmlab running_mean JPEGImages ImageSets
  voc_eval.py pycocotools mine.yaml resnet50.safetensors resnet50-0676ba61.pth reppoints_moment_r50_fpn_1x_coco.pth reppoints.safetensors .pth
  --cuda-graph-trace --capture-range --nvtx-include
  jpeglib.h math.h
"

# --- what there is ---

declare -A word flag command subcommand key section kernel file_of foreign_word
declare -A folder
index() {
  local root=$1 bin=$2 line name path
  for name in $foreign; do foreign_word[$name]=1; done
  cd "$root"
  while IFS= read -r path; do
    file_of[${path##*/}]=$path
    folder[${path%%/*}]=1
  done < <(find . -type f -not -path './build/*' -not -path './out/*' -not -path './.git/*' -not -path './third_party/.cache/*' | sed 's|^\./||')
  while IFS= read -r name; do word[$name]=1; done < <(
    find . -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.sh' -o -name '*.py' -o -name '*.yaml' \
      -o -name '*.cmake' -o -name CMakeLists.txt -o -name CMakePresets.json \) -not -path './build/*' -not -path './out/*' -not -path './third_party/.cache/*' -not -name check_docs.sh \
      -exec grep -ohE '[A-Za-z_][A-Za-z0-9_]*(\.(json|jsonl|txt|md|yaml))?' {} + | sort -u)
  # "x_kernel(" is a definition: launch() takes the name without a parenthesis.
  while IFS=: read -r path name; do
    kernel[${name%(}]+=" ${path#./} "
  done < <(find . \( -name '*.cu' -o -name '*.cuh' \) -not -path './build/*' -exec grep -HoE '[a-z0-9_]+_kernel\(' {} + || true)

  # program, "program subcommand", "program --flag", "program subcommand --flag"
  local program sub help
  for program in "$bin"/*; do
    name=${program##*/}
    if [[ $name == test_* || ! -f $program || ! -x $program ]]; then continue; fi
    command[$name]=1
    help=$("$program" --help)
    add_flags "$name" "$help"
    while IFS= read -r sub; do
      subcommand["$name $sub"]=1
      add_flags "$name $sub" "$("$program" "$sub" --help)"
    done < <(sed -n '/^Subcommands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p' <<< "$help")
  done
  for program in scripts/*.sh scripts/*/*.sh scripts/*.py scripts/*/*.py tests/*.sh; do
    if [ ! -f "$program" ]; then continue; fi
    command[$program]=1
    # What a script takes stands in its usage text, which is in its source.
    add_flags "$program" "$(cat "$program")"
  done

  # Keys, of `inspect config`: key, section.key, section.section.key.
  local depth prefix=()
  while IFS= read -r line; do
    if [[ ! $line =~ ^(\ *)([a-z_0-9]+):(.*)$ ]]; then continue; fi
    depth=$((${#BASH_REMATCH[1]} / 2)) name=${BASH_REMATCH[2]}
    prefix=("${prefix[@]:0:depth}" "$name")
    path=$(IFS=. && echo "${prefix[*]}")
    key[$path]=1 key[$name]=1
    if [ "$depth" -eq 0 ]; then section[$name]=1; fi
  done < <("$bin/inspect" config)
}
add_flags() {
  local name
  while IFS= read -r name; do flag["$1 $name"]=1 flag[$name]=1; done < <(grep -oE -- '--[a-z][a-z0-9-]*' <<< "$2" | sort -u)
}

# --- what is named ---

# Lines "line TAB kind TAB text": span, row (a whole table row), command, yaml, link.
names_in() {
  awk '
    function flush(    n, i, at, part, l, pieces, prose) {
      # Spans may go over the end of a line within a paragraph: \n are counted to know where one begins.
      n = split(text, pieces, "`")
      l = start
      for (i = 1; i <= n; ++i) {
        part = pieces[i]
        if (i % 2 == 1) prose = prose part
        else if (i < n) { gsub(/\n */, " ", part); print l "\tspan\t" part; gsub(/[^\n]/, "", pieces[i]); prose = prose pieces[i] }
        l += gsub(/\n/, "\n", pieces[i])
      }
      at = prose
      l = start
      while (match(at, /\]\([^)]*\)/)) {
        part = substr(at, 1, RSTART)
        l += gsub(/\n/, "\n", part)
        print l "\tlink\t" substr(at, RSTART + 2, RLENGTH - 3)
        at = substr(at, RSTART + RLENGTH)
      }
      text = ""
    }
    /^ *```/ { flush(); fenced = !fenced; language = substr($0, index($0, "```") + 3); next }
    fenced && language == "yaml" { print FNR "\tyaml\t" $0; next }
    fenced || (/^    / && (before == "" || code)) {
      if (!fenced) code = 1
      line = $0
      sub(/ +#.*$/, "", line)
      if (held != "") { line = held line } else first = FNR
      held = ""
      if (line ~ /\\$/) held = substr(line, 1, length(line) - 1)
      else print first "\tcommand\t" line
      before = $0
      next
    }
    { code = 0; before = $0 }
    /^ *$/ { flush(); next }
    /^ *\|/ { flush(); print FNR "\trow\t" $0 }
    { if (text == "") { start = FNR; text = $0 } else text = text "\n" $0 }
    /^ *\|/ { flush() }
    END { flush() }' "$1"
}

wrong=0
say() {
  echo "$1:$2: $3"
  wrong=$((wrong + 1))
}

# Does a path, with {a,b} and *, or without its extension, stand for something?
exists() {
  local path=$1 before list after part
  if [[ $path =~ ^([^{]*)\{([^}]*)\}(.*)$ ]]; then
    before=${BASH_REMATCH[1]} list=${BASH_REMATCH[2]} after=${BASH_REMATCH[3]}
    local IFS=,
    for part in $list; do exists "$before$part$after" || return 1; done
    return 0
  fi
  if [ -e "$path" ]; then return 0; fi
  if [[ $path == *\** ]]; then compgen -G "$path" > /dev/null; else [[ $path != */ ]] && compgen -G "$path.*" > /dev/null; fi
}

# x.h, test_x.cpp, kernels/x.{h,cpp,cu}, model.loss.x, make_x, XConfig: any name.
is_placeholder() { [[ "/$1" =~ [/.](test_)?x(\.[^/]*)?$ || $1 =~ (^|_)x(_|$) || $1 =~ ^X[A-Z][a-z] ]]; }
is_known() { is_placeholder "$1" || [ -n "${word[$1]:-}${foreign_word[$1]:-}${command[$1]:-}${key[$1]:-}" ]; }

# A path from the root, or from the folder of the document; one of the machine (/dev/shm) is nobody's here.
check_path() {
  local top=${3%%/*} name=${3##*/}
  if [ -z "$top" ] || is_placeholder "$3" || [ -n "${foreign_word[$3]:-}" ]; then return; fi
  if [ "$top" = build ] || [ "$top" = out ]; then
    if [[ $3 == build/*/bin/?* && -z ${command[$name]:-} ]]; then say "$1" "$2" "there is no program $3"; fi
  elif [ -n "${folder[$top]:-}" ] || [[ $name =~ \.(h|cpp|cu|cuh|sh|py|cmake)$ ]]; then
    exists "$3" || exists "$(dirname "$1")/$3" || say "$1" "$2" "there is no $3"
  fi
}

# The words of a command line behind a program of ours; what stands before it is another's.
check_command() {
  local at="$1" line=$2 program="" sub="" argument name i
  read -ra arguments <<< "$3"
  for ((i = 0; i < ${#arguments[@]}; ++i)); do
    argument=${arguments[i]} name=${arguments[i]}
    if [[ $name == build/*/bin/* || $name == bin/* ]]; then name=${name##*/}; fi
    if [ -z "$program" ]; then
      # `perf report`: a bare word behind another's program is that program's own.
      if [ "$i" -gt 0 ] && [ -n "${foreign_word[${arguments[0]}]:-}" ] && [[ $argument != */* ]]; then continue; fi
      if [ -n "${command[$name]:-}" ]; then program=$name; elif [[ $argument =~ ^(build/[^/]*/bin|bin)/|^scripts/.*\.(sh|py)$ ]]; then say "$at" "$line" "there is no program $argument"; fi
      if [ -n "$program" ] && [ -n "${arguments[i + 1]:-}" ] && has_subcommands "$program" && [[ ${arguments[i + 1]} =~ ^[a-z-]+$ && ${arguments[i + 1]} != -* ]]; then
        sub=${arguments[i + 1]}
        if [ -z "${subcommand[$program $sub]:-}" ]; then say "$at" "$line" "$program has no subcommand $sub"; fi
        program="$program $sub" i=$((i + 1))
      fi
    elif [[ $argument =~ ^--[a-z] ]]; then
      if [ -z "${flag[$program ${argument%%=*}]:-}" ]; then say "$at" "$line" "$program has no flag ${argument%%=*}"; fi
    elif [[ $argument =~ ^\"?([a-z_0-9]+(\.[a-z_0-9]+)+)= ]]; then
      if [ -z "${key[${BASH_REMATCH[1]}]:-}" ]; then say "$at" "$line" "there is no configuration key ${BASH_REMATCH[1]}"; fi
    elif [[ $argument == */* ]]; then
      check_path "$at" "$line" "$argument"
    fi
  done
}
has_subcommands() { [[ " ${!subcommand[*]} " == *" $1 "* ]]; }

check_span() {
  local at=$1 line=$2 text=$3 first name part
  first=${text%% *}
  if [[ $text == *" "* ]] && { [ -n "${command[$first]:-}" ] || [[ $first == build/*/bin/* || $first == scripts/* ]]; }; then
    check_command "$at" "$line" "$text"
  elif [[ $text =~ ^(--[a-z][a-z0-9-]*) ]]; then
    name=${BASH_REMATCH[1]}
    if [ -z "${flag[$name]:-}${foreign_word[$name]:-}" ]; then say "$at" "$line" "nothing has a flag $name"; fi
  elif [[ $text =~ ^[A-Za-z0-9_.*{},/-]+$ && $text == */* ]]; then
    check_path "$at" "$line" "$text"
  elif [[ $text =~ ^([a-z_0-9]+(\.[a-z_0-9]+)*)(=|:)( .*|[^:].*)?$ ]]; then
    name=${BASH_REMATCH[1]}
    if [ -z "${key[$name]:-}" ] && { [[ $name == *.* ]] || ! is_known "$name"; }; then say "$at" "$line" "there is no configuration key $name"; fi
  elif [[ $text =~ ^[A-Za-z0-9_-]*\.(h|cpp|cu|cuh|sh|py|cmake|md|yaml|json|jsonl|txt|safetensors|pth)$ ]]; then
    if [ -z "${file_of[$text]:-}" ] && ! is_placeholder "$text" && ! is_known "$text" && [[ $text != .* ]]; then say "$at" "$line" "there is no file $text"; fi
  elif [[ $text =~ ^[a-z_0-9]+(\.[a-z_0-9]+)+$ && -n ${section[${text%%.*}]:-} ]]; then
    if [ -z "${key[$text]:-}" ] && ! is_placeholder "$text"; then say "$at" "$line" "there is no configuration key $text"; fi
  elif [[ $text =~ ^[a-z0-9][a-z0-9_]*_kernel$ ]]; then
    if [ -z "${kernel[$text]:-}" ]; then say "$at" "$line" "there is no kernel $text"; fi
  elif [[ $text =~ ^[A-Za-z][A-Za-z0-9_:.()*/-]*$ ]] && ! is_known "$text"; then
    # An identifier, qualified or called; parts of one or two letters are formulas'.
    for part in ${text//[^A-Za-z0-9_]/ }; do
      if [[ ${#part} -gt 2 && $part =~ ^[A-Za-z_] ]] && ! is_known "$part"; then say "$at" "$line" "nothing is called $part"; fi
    done
  fi
}

# Lines "file TAB line TAB path" of the files that comments of sources name. What comes behind a mark inside of a string
# is taken for a comment too: it rarely names a file. Not addresses.
commented_files() {
  find . \( -path ./build -o -path ./out -o -path ./.git -o -path ./third_party/.cache \) -prune -o -type f \( -name '*.h' -o -name '*.cpp' \
    -o -name '*.cu' -o -name '*.cuh' -o -name '*.sh' -o -name '*.py' -o -name '*.yaml' -o -name '*.cmake' -o -name CMakeLists.txt \) \
    -not -name check_docs.sh -exec awk '
    FNR == 1 { mark = FILENAME ~ /\.(h|cpp|cuh?)$/ ? "// " : "# " }
    at = index($0, mark) {
      text = substr($0, at + length(mark)) " "
      gsub(/[a-z]+:\/\/[^ ]*/, "", text)
      while (match(text, /[A-Za-z0-9_.][A-Za-z0-9_.,*}{\/-]*\.(h|cpp|cuh?|sh|py|cmake|md|yaml|[{][a-z,]+[}])[^A-Za-z0-9_]/)) {
        print substr(FILENAME, 3) "\t" FNR "\t" substr(text, RSTART, RLENGTH - 1)
        text = substr(text, RSTART + RLENGTH - 1)
      }
    }' {} +
}

# A path from the root or from the folder of the source, or a source's name alone.
check_comment() {
  if [[ $3 == */* ]]; then
    check_path "$1" "$2" "$3"
  elif [[ $3 =~ \.(h|cpp|cuh?)$ && -z ${file_of[$3]:-}${foreign_word[$3]:-} ]] && ! is_placeholder "$3"; then
    say "$1" "$2" "there is no file $3"
  fi
}

# The kernels in a row of a table that names CUDA sources are defined in one of those.
check_row() {
  local sources name
  sources=$(grep -oE '[a-z_/0-9]+\.cuh?' <<< "$3" || true)
  if [ -z "$sources" ]; then return; fi
  while IFS= read -r name; do
    name=${name//\`/}
    if [ -n "${kernel[$name]:-}" ] && ! grep -qF "$(tr ' ' '\n' <<< "${kernel[$name]}" | grep .)" <<< "$sources"; then
      say "$1" "$2" "$name is not in $(paste -sd ' ' <<< "$sources") but in${kernel[$name]}"
    fi
  done < <(grep -oE '`[a-z0-9_]+_kernel`' <<< "$3" || true)
}

check_tree() {
  local root=$1 bin=$2 file line kind text target read=0 documents=0
  index "$root" "$bin"
  while IFS= read -r file; do
    documents=$((documents + 1))
    while IFS=$'\t' read -r line kind text; do
      read=$((read + 1))
      case $kind in
        span) check_span "$file" "$line" "$text" ;;
        command) check_command "$file" "$line" "$text" ;;
        row) check_row "$file" "$line" "$text" ;;
        yaml)
          if [[ $text =~ ^\ *([a-z_0-9]+): && ${BASH_REMATCH[1]} != base && -z ${key[${BASH_REMATCH[1]}]:-} ]]; then
            say "$file" "$line" "there is no configuration key ${BASH_REMATCH[1]}"
          fi
          ;;
        link)
          target=${text%%#*} target=${target%% *}
          if [[ -n $target && ! $target =~ ^[a-z]+: && ! -e $(dirname "$file")/$target ]]; then say "$file" "$line" "the link leads nowhere: $target"; fi
          ;;
      esac
    done < <(names_in "$file")
  done < <(find . \( -path ./build -o -path ./out -o -path ./.git -o -path ./third_party/.cache \) -prune -o \( -path './docs/*.md' -o -name README.md -o -path ./CONTRIBUTING.md \
    -o -path ./SECURITY.md \) -type f -print | sed 's|^\./||' | sort)
  while IFS=$'\t' read -r file line text; do
    read=$((read + 1))
    check_comment "$file" "$line" "$text"
  done < <(commented_files)
  if [ "$documents" -eq 0 ]; then echo "no documentation under $root" && return 1; fi
  if [ "$wrong" -gt 0 ]; then return 1; fi
  echo "$documents documents, $read names, links and lines: all there"
}

scratch=""
self_test() {
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  local root=$scratch/tree bin=$scratch/tree/build/release/bin failures=0 i
  mkdir -p "$root"/{docs,kernels,scripts} "$bin"
  printf '__global__ void right_kernel(int n) {}\nvoid Thing::right_call() {}\n' > "$root/kernels/right.cu"
  printf '__global__ void other_kernel(int n) {}\n' > "$root/kernels/other.cu"
  printf '#!/bin/sh\n# usage: right.sh --right\n' > "$root/scripts/right.sh"
  cat > "$bin/inspect" <<'TEXT'
#!/bin/sh
case "$*" in
  config) printf '# what\nmodel:\n  # how\n  loss:\n    type: a  # which\nlr: 1\n' ;;
  "look --help") echo "  --deep" ;;
  *) printf 'Options:\n  --help\n\nSubcommands:\n  config   keys\n  look     deep\n\n' ;;
esac
TEXT
  chmod +x "$bin/inspect"
  # Each line of these is a document of its own: nothing, one thing wrong.
  local right=('`kernels/right.cu`' '`kernels/right`' '`kernels/`' '`kernels/{right,other}.cu`' '`kernels/x.cu`' '`right.cu`' '`right_kernel`'
    '`Thing::right_call()`' '`model.loss.type`' '`model.loss.type=b`' '`type: a`' '`inspect look --deep`' '`--deep`' '`scripts/right.sh --right`'
    '[a](../kernels/right.cu)' '[a](https://example.com/wrong)' '`ncu --wrong build/release/bin/inspect look --deep model.loss.type=b`'
    '| `right_kernel` | `kernels/right.cu` |' 'wrong.cu' '`N * wrong + 1`' $'```\nscripts/right.sh --right  # --wrong\n```' $'```yaml\nmodel:\n  loss: {}\n```'
    $'```sh\nperf inspect look --wrong\n```' $'a span `inspect\nlook --deep` over two lines' 'mine: `mine.yaml`' '`make_x()`, `XConfig`, `model.loss.x`')
  local bad=('`kernels/wrong.cu`' '`kernels/wrong`' '`kernels/wrong/`' '`kernels/{right,wrong}.cu`' '`wrong.cu`' '`wrong_kernel`'
    '`Thing::wrong_call()`' '`model.loss.wrong`' '`model.wrong.type=b`' '`wrong_key: a`' '`inspect look --wrong`' '`--wrong`' '`scripts/right.sh --wrong`'
    '[a](../kernels/wrong.cu)' '`scripts/wrong.sh`' '`inspect wrong --deep`' '    build/release/bin/inspect look --wrong' '`build/release/bin/wrong`'
    '| `right_kernel` | `kernels/other.cu` |' $'```\nncu build/release/bin/inspect look \\\n  --wrong\n```' $'```sh\nscripts/right.sh model.wrong.key=1\n```'
    $'```yaml\nmodel:\n  wrong: {}\n```' $'a span `inspect\nlook --wrong` over two lines')
  # Likewise, but sources.
  local right_comments=('// As kernels/right.cu, right.cu and kernels/x.{h,cpp,cu} do.' 'int n;  // kernels/r*.cu' '// https://example.com/wrong.h'
    'int n = wrong.cu;' '// annotations/wrong.json')
  local bad_comments=('// As kernels/wrong.cu.' 'int n;  // wrong.cuh, right.cu' '// kernels/w*.cu' '// kernels/{right,wrong}.cu' '// right/right.cu')
  # try EXPECTED TEXT [FILE]
  try() {
    local outcome=accepted file=$root/${3:-docs/text.md}
    printf 'A document.\n\n%s\n' "$2" > "$file"
    ("$0" --root "$root" "$bin") > "$scratch/out.txt" 2>&1 || outcome=refused
    if [ "$outcome" != "$1" ]; then
      echo "self-test: '$2' was $outcome, expected $1: $(cat "$scratch/out.txt")"
      failures=$((failures + 1))
    fi
  }
  for i in "${right[@]}"; do try accepted "$i"; done
  for i in "${bad[@]}"; do try refused "$i"; done
  printf 'A document.\n' > "$root/docs/text.md"
  for i in "${right_comments[@]}"; do try accepted "$i" kernels/text.h; done
  for i in "${bad_comments[@]}"; do try refused "$i" kernels/text.h; done
  rm -r "$root/docs" "$root/kernels/text.h"
  if "$0" --root "$root" "$bin" > /dev/null 2>&1; then
    echo "self-test: a tree without documents was accepted"
    failures=$((failures + 1))
  fi
  [ "$failures" -eq 0 ] && echo "self-test: $((${#bad[@]} + ${#bad_comments[@]})) wrong names found, $((${#right[@]} + ${#right_comments[@]})) right ones accepted"
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case "${1:-}" in
  -h | --help) usage ;;
  --self-test) self_test ;;
  --root)
    if [ $# -ne 3 ]; then usage >&2 && exit 2; fi
    check_tree "$(realpath "$2")" "$(realpath "$3")"
    ;;
  "" | -*)
    usage >&2
    exit 2
    ;;
  *) check_tree "$root" "$(realpath "$1")" ;;
esac
