#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `cmake --install` into an empty folder: what is there runs from there.
# usage: test_install.sh BUILD    a build folder with all programs
set -euo pipefail
build=$(realpath "$1")
programs=(train evaluate detect synthesize inspect benchmark experiment report make-patches scan)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $1" && exit 1; }

cmake --install "$build" --prefix "$work/prefix" > "$work/log.txt" || fail "cmake --install: $(cat "$work/log.txt")"
# Moved, so that nothing can lie in wait behind an absolute path.
mv "$work/prefix" "$work/elsewhere"
cd "$work/elsewhere"
for program in "${programs[@]}"; do
  "bin/$program" --help > "$work/help.txt" || fail "bin/$program --help"
  grep -q -- --version "$work/help.txt" || fail "bin/$program --help: $(cat "$work/help.txt")"
done
for config in share/gradlibra/configs/*.yaml; do
  bin/inspect config --config "$config" > /dev/null || fail "bin/inspect config --config $config"
done
for file in share/doc/gradlibra/{LICENSE,README.md,docs/guide.md}; do
  [ -s "$file" ] || fail "$file was not installed"
done
for program in "${programs[@]}"; do
  bash -c "source share/bash-completion/completions/$program && complete -p $program" > /dev/null ||
    fail "the completion of $program was not installed"
done
echo "install: $(find . -type f | wc -l) files, the programs run from another folder"
