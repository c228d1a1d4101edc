# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the launchers share; to be sourced.

# Prints the folder of train: `bin` if it is not empty, else this checkout's build, else the one on PATH.
folder_of_train() {
  local bin=$1
  if [ -z "$bin" ]; then
    bin=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/release/bin
    [ -x "$bin/train" ] || bin=$(dirname "$(command -v train || echo train)")
  fi
  printf '%s\n' "$bin"
}

wrong_use() { echo "${0##*/}: $1" >&2 && exit 2; }

# need_value OPTION [VALUE..]: ends the script where the command line is over behind an option.
need_value() {
  if [ $# -lt 2 ] || [ -z "$2" ]; then wrong_use "$1 needs a value"; fi
}

# need_number OPTION VALUE LEAST
need_number() {
  if ! [[ "$2" =~ ^[0-9]{1,6}$ ]] || [ "$2" -lt "$3" ]; then wrong_use "$1 $2: a whole number from $3 on is needed"; fi
}

need_train() { [ -x "$1/train" ] || wrong_use "$1/train: no program there; --bin names the folder of a build's programs"; }
