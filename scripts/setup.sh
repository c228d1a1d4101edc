#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs the compilers and libraries that are missing, through apt-get; where there is a CUDA toolkit, brings NVIDIA's
# cudnn-frontend headers through pip into third_party/.cache. Quiet when there is nothing to do.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/setup.sh [--tests] [--check]
  --tests   also what the test suite needs (GoogleTest, Open MPI) and scripts/lint.sh (clang-format, clang-tidy, shellcheck)
  --check   install nothing; only say what is missing
  --help    this text
Needs apt-get (Debian 12, Ubuntu 24.04 or newer) and root or sudo, unless everything is there already. CUDA and OpenSlide
are used when present and are never installed by this script; nor is MPI without --tests, as a cluster has its own. With CUDA, the headers of cudnn-frontend (needed beside cuDNN 9 for
fast GPU convolutions) come from pip; set CUDNN_FRONTEND_ROOT to use others.
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
# The build goes on without these: slower builds, slower convolutions on the CPU, no TIFF and WebP pictures, large
# JPEG and PNG pictures only as far as they fit into memory whole, code that nobody has linted.
optional="ccache:ccache git:git libdnnl-dev:dnnl.hpp libtiff-dev:tiffio.h libwebp-dev:webp/decode.h
  libjpeg-dev:jpeglib.h libpng-dev:png.h"
if $tests; then
  required+=" libgtest-dev:gtest/gtest.h"
  optional+=" clang-format:clang-format clang-tidy:clang-tidy shellcheck:shellcheck"
  optional+=" libopenmpi-dev:mpi.h openmpi-bin:mpirun"
fi

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

# cuDNN is used through headers that NVIDIA publishes apart from it, on the Python package index; a wheel is a zip file,
# nothing of Python is run or installed. The version is the one the tests were run with. A build without them works, so
# trouble here is reported and is no failure.
frontend_version=1.15.0
fetch_cudnn_frontend() {
  local cache wheel_dir
  cache=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/third_party/.cache/cudnn-frontend
  command -v nvcc > /dev/null || [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ] || return 0
  [ -z "${CUDNN_FRONTEND_ROOT:-}" ] || return 0
  [ ! -f "$cache/include/cudnn_frontend.h" ] || return 0
  ! has_header cudnn_frontend.h || return 0
  local missing="setup: GPU convolutions will be slow without the headers of cudnn-frontend $frontend_version"
  if $check_only; then
    echo "$missing (--check)" >&2
    return 0
  fi
  if ! python3 -m pip --version > /dev/null 2>&1; then
    echo "$missing: install pip (apt-get install python3-pip) and run this again, or set CUDNN_FRONTEND_ROOT" >&2
    return 0
  fi
  echo "setup: fetching cudnn-frontend $frontend_version"
  wheel_dir=$(mktemp -d)
  # Any wheel of this version will do, the headers in them are the same: the tags need not fit the Python that is here.
  if python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.11 \
    --implementation cp --abi cp311 --platform manylinux_2_28_x86_64 --dest "$wheel_dir" \
    "nvidia-cudnn-frontend==$frontend_version" > "$wheel_dir/log" 2>&1 &&
    python3 -m zipfile -e "$wheel_dir"/*.whl "$wheel_dir/content" && [ -f "$wheel_dir/content/include/cudnn_frontend.h" ]; then
    mkdir -p "$cache"
    rm -rf "$cache/include"
    mv "$wheel_dir/content/include" "$cache/include"
  else
    tail -n 3 "$wheel_dir/log" >&2
    echo "$missing: pip could not fetch nvidia-cudnn-frontend (no network?)" >&2
  fi
  rm -rf "$wheel_dir"
}

# Ends the script after saying what is missing and how to get it; goes on if only optional packages are.
give_up() {
  read_missing
  local all=("${missing_required[@]}" "${missing_optional[@]}")
  if [ ${#missing_required[@]} -eq 0 ]; then
    echo "setup: going on without the optional ${missing_optional[*]} ($1)" >&2
    check_versions
    fetch_cudnn_frontend
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
  fetch_cudnn_frontend
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
fetch_cudnn_frontend
