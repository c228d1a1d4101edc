#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Programs, tests and scripts in one folder that runs on a machine with an NVIDIA GPU and nothing else installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
usage: scripts/bundle.sh [--arch ARCH] [--jobs N] [--tar]
Builds in build/bundle/ and fills build/bundle/gradlibra-bundle/:
  bin/       the programs and the tests that use a GPU     lib/   OpenMP's runtime; cpu/: what they need to start without cuDNN
  configs/   scripts/                                      README.txt
yaml-cpp, fmt, pugixml, GoogleTest, the C++ runtime and the CUDA runtime are linked in. What the other machine needs: a driver, glibc
as new as here, and those of cuDNN, cuBLAS and NCCL that the build used, found through LD_LIBRARY_PATH
(scripts/gpu_check.sh looks for them in the system and in an installed PyTorch).
  --arch ARCH   CMAKE_CUDA_ARCHITECTURES, default 90-real (H100, H200); 80-real for an A100
  --jobs N      compile N files at a time; default: one per processor
  --tar         also pack it, as .tar.xz
Host code is built for x86-64-v3 (AVX2).
TEXT
}

arch=90-real jobs=$(nproc) tar=false
while [ $# -gt 0 ]; do
  case "$1" in
    --arch) arch=${2:?--arch needs a value} && shift 2 ;;
    --jobs) jobs=${2:?--jobs needs a number} && shift 2 ;;
    --tar) tar=true && shift ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done

build=build/bundle
bundle=$build/gradlibra-bundle
programs=(train evaluate synthesize inspect benchmark experiment)
tests=(test_cuda test_cudnn test_training test_runtime)
most_mb=30  # of the archive, which has to travel

fail() { echo "bundle: $1" >&2 && exit 1; }

# CMake asks each test binary for its tests after linking it: they must start here, with the libraries of this machine.
cuda=${CUDA_HOME:-/usr/local/cuda}
export PATH=$PATH:$cuda/bin LD_LIBRARY_PATH=$cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

cmake -G Ninja -B "$build" -S . -DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_ARCHITECTURES="$arch" \
  -DGRADLIBRA_CUDA=ON -DGRADLIBRA_ONEDNN=OFF -DGRADLIBRA_MPI=OFF -DGRADLIBRA_OPENSLIDE=OFF \
  -DGRADLIBRA_TIFF=OFF -DGRADLIBRA_WEBP=OFF -DGRADLIBRA_JPEG=OFF -DGRADLIBRA_PNG=OFF \
  -DGRADLIBRA_TESTS=ON -DGRADLIBRA_TEST_VECTORS=tests/vectors \
  -DGRADLIBRA_STATIC_DEPS=ON -DGRADLIBRA_NATIVE=OFF -DCMAKE_CXX_FLAGS=-march=x86-64-v3 \
  -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON '-DCMAKE_INSTALL_RPATH=$ORIGIN/../lib'
grep -q '^CMAKE_CUDA_COMPILER:[^=]*=/' "$build/CMakeCache.txt" || fail "no CUDA compiler was found: there would be nothing for a GPU"
for found in GRADLIBRA_CUDNN_LIBRARY GRADLIBRA_CUDNN_INCLUDE_DIR CUDNN_FRONTEND_INCLUDE_DIR; do
  grep -q "^$found:[^=]*=/" "$build/CMakeCache.txt" || fail "cuDNN or NVIDIA's cudnn-frontend was not found ($found), without which convolutions are many times slower: scripts/setup.sh brings what it can"
done
grep -q '^GRADLIBRA_NCCL_INCLUDE_DIR:[^=]*=/' "$build/CMakeCache.txt" || fail "NCCL's header was not found: nothing could run on several ranks"
cmake --build "$build" -j "$jobs" --target "${programs[@]}" "${tests[@]}"
grep -q '\[libcudnn\.so' <<< "$(readelf -d "$build/bin/benchmark")" || fail "the build is without cuDNN, why is in what cmake said above"

rm -rf "$bundle"
mkdir -p "$bundle"/{bin,lib}
for name in "${programs[@]}" "${tests[@]}"; do strip -o "$bundle/bin/$name" "$build/bin/$name"; done
gomp=$(g++ -print-file-name=libgomp.so.1)
[ -f "$gomp" ] || fail "libgomp.so.1 was not found"
cp -L "$gomp" "$bundle/lib/"
# cuDNN's front, a small library that opens the large ones when a GPU is used: with it the programs start where there is
# no cuDNN.
front=$(ldd "$build/bin/benchmark" | sed -nE 's/.*libcudnn\.so\.9 => (\S+) .*/\1/p')
if [ -n "$front" ] && [ "$(stat -L -c %s "$front")" -lt 1000000 ]; then
  mkdir "$bundle/lib/cpu"
  cp -L "$front" "$bundle/lib/cpu/libcudnn.so.9"
else
  echo "bundle: without cuDNN's front library (${front:-not found}): gpu_check.sh --device cpu will need an installed cuDNN" >&2
fi
cp -r configs LICENSE "$bundle/"
mkdir "$bundle/scripts"
cp scripts/library_path.sh scripts/gpu_check.sh scripts/compare_losses.sh scripts/compare_losses.awk "$bundle/scripts/"
if [ -d scripts/compare ]; then cp -r scripts/compare "$bundle/scripts/"; fi
find "$bundle/scripts" -name __pycache__ -prune -exec rm -r {} +
# Where scripts look for programs in a checkout.
mkdir -p "$bundle/build/release"
ln -s ../../bin "$bundle/build/release/bin"
version=$("$bundle/bin/benchmark" --version)
cat > "$bundle/README.txt" <<TEXT
$version for NVIDIA GPUs (CUDA architectures $arch), prebuilt.

    . scripts/library_path.sh            in a shell, before programs are called by hand: finds cuDNN, cuBLAS, NCCL
    scripts/gpu_check.sh                 tests, benchmarks and a short training; report in out/gpu_check/report.md
    bin/benchmark step --help            how fast a training step is
    bin/train --help                     training

lib/cpu/libcudnn.so.9 is NVIDIA's, under the licence of cuDNN; it serves --device cpu alone.

Needs an NVIDIA driver. cuDNN, cuBLAS and NCCL are looked up through LD_LIBRARY_PATH; scripts/library_path.sh, which the other scripts
read, adds those of an installed PyTorch.
TEXT

# Only what every such machine has, and what README.txt names. The driver (libcuda) and NCCL are opened at run time.
allowed='^(linux-vdso|ld-linux-x86-64|libc|libm|libdl|librt|libpthread|libgomp|libcudnn[a-z_]*|libcublas(Lt)?)\.so(\.[0-9]+)*$'
problems=0 needed_all=""
for file in "$bundle"/bin/*; do
  # Read whole: grep -q ends at its first hit, and what still writes to it would count as failed.
  dynamic=$(readelf -d "$file") loaded=$(LD_LIBRARY_PATH='' ldd "$file")
  while read -r library; do
    needed_all+="$library"$'\n'
    if [[ ! $library =~ $allowed ]]; then
      echo "bundle: $(basename "$file") needs $library, which another machine may not have" >&2
      problems=$((problems + 1))
    fi
  done < <(sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p' <<< "$dynamic")
  grep -qE '\((RUNPATH|RPATH)\).*\[\$ORIGIN/\.\./lib\]' <<< "$dynamic" || fail "$(basename "$file") has another run path than \$ORIGIN/../lib"
  if grep -q libgomp <<< "$dynamic"; then
    grep -q "libgomp.so.1 => .*gradlibra-bundle/" <<< "$loaded" || fail "$(basename "$file") does not take the libgomp beside it"
  fi
done
[ "$problems" -eq 0 ] || fail "$problems libraries must be linked in or named"
glibc=$(readelf -V "$bundle"/bin/* "$bundle"/lib/*.so* 2> /dev/null | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1)
megabytes=$(($(du -sk "$bundle" | cut -f 1) / 1024))

echo "bundle: $bundle, $megabytes MB, needs ${glibc/_/ } or newer and $(sort -u <<< "$needed_all" | grep -vE '^$|^lib(c|m)\.so|^ld-' | paste -sd ' ')"
if $tar; then
  archive=$build/gradlibra-bundle.tar.xz
  # The programs share most of their code: with a dictionary that spans them all it is stored once. It takes one thread
  # a minute and 2 GB, unpacking 200 MB.
  tar -C "$build" -cf - gradlibra-bundle | xz --lzma2=preset=6,dict=192MiB > "$archive"
  megabytes=$(($(stat -c %s "$archive") / 1024 / 1024))
  [ "$megabytes" -le "$most_mb" ] || fail "$archive is $megabytes MB, more than $most_mb"
  echo "bundle: $archive, $megabytes MB"
fi
