// SPDX-License-Identifier: MIT
// Operations that change the size of maps or put maps together.
#pragma once

#include <span>

#include "kernels/max_pool.h"
#include "runtime/autograd/tape.h"

namespace gradlibra::ops {

// The largest value of each window: (N, H, W, C) to (N, Ho, Wo, C), sizes as kernels/max_pool.h has them.
[[nodiscard]] Var max_pool(Tape&, Var x, const kernels::PoolShape& shape);

// Every second row and column: (N, H, W, C) to (N, ceil(H/2), ceil(W/2), C), FPN's extra level without parameters.
[[nodiscard]] Var subsample2(Tape&, Var x);

// fine + nearest(coarse).
[[nodiscard]] Var upsample_add(Tape&, Var coarse, Var fine);

// (N, H_l, W_l, C) of all levels to (N, sum of H_l*W_l, C), rows of a level row-major.
[[nodiscard]] Var concat_levels(Tape&, std::span<const Var> levels);

}  // namespace gradlibra::ops
