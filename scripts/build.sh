#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Configures and builds one preset with as many jobs as cores and memory allow.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: scripts/build.sh [--preset NAME] [--jobs N] [--apps | --tests] [--native] [-- CMAKE-OPTIONS]
  --preset NAME   release (default), debug, asan, tsan, coverage or cpu-only; binaries land in build/NAME/bin/
  --jobs N        compile N files at a time; default: one per core and per 1.5 GB of free memory
  --apps          only the programs; a first configuration leaves the tests out
  --tests         everything, with the tests on
  --native        for this machine's CPU (GRADLIBRA_NATIVE), remembered by the folder: with AVX-512 a training step on the
                  CPU takes three quarters of the time, and the programs start on CPUs like this one only
  -- OPTIONS      to cmake, for example -- -DGRADLIBRA_CUDA=OFF
TEXT
}

preset=release jobs="" target="" options=()
apps=(train evaluate detect synthesize inspect benchmark experiment make-patches report scan)
while [ $# -gt 0 ]; do
  case "$1" in
    --preset) preset=${2:?--preset needs a name} && shift 2 ;;
    --jobs) jobs=${2:?--jobs needs a number} && shift 2 ;;
    --apps) target=apps && shift ;;
    --tests) target=tests && shift ;;
    --native) options+=(-DGRADLIBRA_NATIVE=ON) && shift ;;
    -h | --help) usage && exit 0 ;;
    --) shift && options+=("$@") && break ;;
    *) usage >&2 && exit 2 ;;
  esac
done

# Free memory in MB: the machine's, or what a control group leaves of it.
free_memory() {
  local free limit used
  free=$(($(sed -nE 's/^MemAvailable: +([0-9]+) kB/\1/p' /proc/meminfo) / 1024))
  limit=$(cat /sys/fs/cgroup/memory.max 2> /dev/null || echo max)
  used=$(cat /sys/fs/cgroup/memory.current 2> /dev/null || echo 0)
  if [ "$limit" != max ] && [ $(((limit - used) / 1048576)) -lt "$free" ]; then free=$(((limit - used) / 1048576)); fi
  echo "$free"
}

if [ -z "$jobs" ]; then
  jobs=$(nproc)
  by_memory=$(($(free_memory) / 1500))
  if [ "$by_memory" -lt "$jobs" ]; then jobs=$by_memory; fi
  if [ "$jobs" -lt 1 ]; then jobs=1; fi
fi

if ! command -v nvcc > /dev/null && [ -x /usr/local/cuda/bin/nvcc ]; then export PATH="$PATH:/usr/local/cuda/bin"; fi

if [ "$target" = tests ]; then options+=(-DGRADLIBRA_TESTS=ON); fi
if [ "$target" = apps ] && [ ! -f "build/$preset/CMakeCache.txt" ]; then options+=(-DGRADLIBRA_TESTS=OFF); fi
cmake --preset "$preset" "${options[@]}"
if [ "$target" = apps ]; then
  cmake --build --preset "$preset" -j "$jobs" --target "${apps[@]}"
else
  cmake --build --preset "$preset" -j "$jobs"
fi
