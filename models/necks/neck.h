// SPDX-License-Identifier: MIT
// A neck: from a backbone's stages to the levels that a head works on. models/necks/make_neck.cpp lists them.
#pragma once

#include <span>
#include <vector>

#include "models/pyramid.h"
#include "runtime/autograd/tape.h"

namespace gradlibra {

class Neck {
 public:
  virtual ~Neck() = default;
  // stages: C2..C5 (strides 4, 8, 16, 32), of which it takes those it needs. The levels of pyramid(), the finest first.
  [[nodiscard]] virtual std::vector<Var> operator()(Tape& tape, std::span<const Var> stages) const = 0;
  [[nodiscard]] virtual const Pyramid& pyramid() const = 0;
};

}  // namespace gradlibra
