// SPDX-License-Identifier: MIT
// Elementwise operations on the tape: formulas in kernels/elementwise.h.
#pragma once

#include "kernels/scaled_activation.h"
#include "runtime/autograd/tape.h"

namespace gradlibra::ops {

[[nodiscard]] Var relu(Tape&, Var x);
[[nodiscard]] Var add_relu(Tape&, Var a, Var b);
[[nodiscard]] Var add(Tape&, Var a, Var b);

// f(scale * x) of a float map; scale: a parameter of one element.
[[nodiscard]] Var scaled_activation(Tape&, Var x, Var scale, kernels::ScaledActivation f);

// A bfloat16 map as float, a float map as it is: from here on (offsets, boxes, losses) nothing is rounded.
[[nodiscard]] Var to_float(Tape&, Var x);

}  // namespace gradlibra::ops
