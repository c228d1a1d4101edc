#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs the compilers and libraries that are missing, through apt-get. Quiet when there is nothing to do.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/setup.sh [--tests] [--check]
  --tests   also what the test suite needs (GoogleTest)
  --check   install nothing; only say what is missing
  --help    this text
Needs apt-get (Debian 12, Ubuntu 24.04 or newer) and root or sudo, unless everything is there already. CUDA, MPI and OpenSlide
are used when present and are never installed by this script.
Exit status: 0 everything needed is there, 1 something is missing, 2 wrong use.
TEXT
}

tests=false check_only=false
for argument in "$@"; do
  case "$argument" in
    --tests) tests=true ;;
    --check) check_only=true ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done

# package, then what shows that it is there without the package manager's help: a command or a header.
required="build-essential:g++ cmake:cmake ninja-build:ninja pkg-config:pkg-config libyaml-cpp-dev:yaml-cpp/yaml.h
  libpugixml-dev:pugixml.hpp nlohmann-json3-dev:nlohmann/json.hpp libcli11-dev:CLI/CLI.hpp libfmt-dev:fmt/core.h
  libspdlog-dev:spdlog/spdlog.h libstb-dev:stb/stb_image.h"
# The build goes on without these: slower builds, slower convolutions on the CPU.
optional="ccache:ccache git:git libdnnl-dev:dnnl.hpp"
if $tests; then required+=" libgtest-dev:gtest/gtest.h"; fi

has_package() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2> /dev/null || true)" = installed ]; }
has_header() { command -v g++ > /dev/null && printf '#include <%s>\n' "$1" | g++ -std=c++20 -E -x c++ - > /dev/null 2>&1; }

# Those of the packages "name:sign ..." that are not there.
missing_of() {
  local entry package sign
  for entry in $1; do
    package=${entry%%:*} sign=${entry#*:}
    has_package "$package" && continue
    case "$sign" in
      *.h | *.hpp) has_header "$sign" && continue ;;
      *) command -v "$sign" > /dev/null && continue ;;
    esac
    echo "$package"
  done
}

is_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

check_versions() {
  local cmake_version compiler_version
  cmake_version=$(cmake --version | sed -nE '1s/.* ([0-9.]+).*/\1/p')
  if ! is_at_least "$cmake_version" 3.25; then
    echo "setup: cmake is $cmake_version, 3.25 or newer is needed: https://cmake.org/download" >&2
    return 1
  fi
  compiler_version=$(g++ -dumpfullversion)
  if ! is_at_least "$compiler_version" 11; then
    echo "setup: g++ is $compiler_version, 11 or newer is needed (C++20)" >&2
    return 1
  fi
}

read_missing() {
  mapfile -t missing_required < <(missing_of "$required")
  mapfile -t missing_optional < <(missing_of "$optional")
}

# Ends the script after saying what is missing and how to get it; goes on if only optional packages are.
give_up() {
  read_missing
  local all=("${missing_required[@]}" "${missing_optional[@]}")
  if [ ${#missing_required[@]} -eq 0 ]; then
    echo "setup: going on without the optional ${missing_optional[*]} ($1)" >&2
    check_versions
    exit
  fi
  {
    echo "setup: $1. Missing: ${all[*]}"
    echo "Install them as root and run this again:"
    echo "    apt-get update && apt-get install -y --no-install-recommends ${all[*]}"
  } >&2
  exit 1
}

read_missing
packages=("${missing_required[@]}" "${missing_optional[@]}")
if [ ${#packages[@]} -eq 0 ]; then
  check_versions
  exit
fi
if $check_only; then give_up "nothing was installed (--check)"; fi
if ! command -v apt-get > /dev/null; then give_up "there is no apt-get here"; fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo > /dev/null; then give_up "this needs root, and there is no sudo"; fi
  if sudo -n true 2> /dev/null; then
    as_root=(sudo -n)
  elif [ -t 0 ]; then
    as_root=(sudo)
  else
    give_up "this needs root, and sudo asks for a password"
  fi
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Short timeouts: without a network the answer should come at once.
apt_get() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=1 -o Acquire::http::Timeout=15 \
    -o Acquire::https::Timeout=15 -o DPkg::Lock::Timeout=120 "$@" > "$log" 2>&1
}

echo "setup: installing ${packages[*]}"
# A fresh system has no package lists, and old ones may name files that are gone: fetch them when an install fails.
if ! apt_get install -y --no-install-recommends "${packages[@]}"; then
  if ! apt_get update -o APT::Update::Error-Mode=any || ! apt_get install -y --no-install-recommends "${packages[@]}"; then
    tail -n 5 "$log" >&2
    give_up "apt-get failed (no network?)"
  fi
fi
read_missing
if [ ${#missing_required[@]} -ne 0 ]; then give_up "apt-get reported success"; fi
check_versions
