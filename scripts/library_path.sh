# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced where prebuilt programs run (scripts/bundle.sh): adds to LD_LIBRARY_PATH where cuDNN, cuBLAS, NCCL and what
# they load lie. Those of an installed PyTorch first (not imported, only looked for), which are newer than a system's
# and fit together; then the loader's own; then those of a CUDA toolkit.
gradlibra_python_libraries() {
  python3 - 2> /dev/null << 'PYTHON'
import pathlib, sys
for place in sys.path:
    for pattern in ("nvidia/cudnn/lib", "nvidia/*/lib", "nvidia/lib", "torch/lib"):
        for folder in sorted(pathlib.Path(place or ".").glob(pattern)):
            if any(any(folder.glob(f"lib{name}.so*")) for name in ("cudnn", "cublas", "nccl", "nvrtc")):
                print(folder)
PYTHON
}
while read -r folder; do
  LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
done < <(
  { gradlibra_python_libraries || true; } | awk '!seen[$0]++'
  ls -d /usr/local/cuda/lib64 /usr/local/cuda*/lib64 2> /dev/null || true
)
unset -f gradlibra_python_libraries
unset folder
export LD_LIBRARY_PATH
