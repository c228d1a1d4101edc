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
