// SPDX-License-Identifier: MIT
#include "runtime/base/runtime_config.h"

namespace gradlibra {

void RuntimeConfig::describe(ConfigVisitor& v) {
  v.choice("precision", precision, {"fp32", "tf32", "bf16"},
           "fp32; tf32: convolutions round their inputs to 10 bits; bf16: feature maps and convolutions in bfloat16, "
           "weights and losses in fp32");
  v.choice("conv_tuning", conv_tuning, {"heuristic", "timed"},
           "GPU convolutions: the libraries' first choice, or the fastest of a few, measured when a run starts");
  v.choice("matrix_products", matrix_products, {"auto", "cudnn"},
           "GPU, 1x1 and deformable convolutions: cuBLASLt and cuDNN, each where it is faster, or cuDNN alone");
  v.field("deterministic", deterministic, "GPU convolutions: only algorithms that give the same bits in every run");
  v.field("parallel_levels", parallel_levels,
          "GPU: run the levels of the pyramid side by side instead of one after the other");
  v.field("keep_columns", keep_columns,
          "deformable convolutions keep their samples for the backward pass (9 times the map) instead of taking them "
          "again");
  v.field("cuda_graph", cuda_graph, "record the training step once and replay it on the GPU");
}

}  // namespace gradlibra
