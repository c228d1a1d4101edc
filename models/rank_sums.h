// SPDX-License-Identifier: MIT
// Sums over ranks of the small numbers that a step needs, in one reduction.
#pragma once

#include <initializer_list>

#include "runtime/autograd/tape.h"
#include "runtime/distributed/communicator.h"

namespace gradlibra {

// Replaces each part, doubles on the device, by its sum over ranks. The parts lie behind one another in a buffer
// meanwhile, so that one reduction serves them all; every rank gives parts of the same sizes. Empty tensors are left
// out.
void sum_over_ranks(Tape& tape, Communicator& ranks, std::initializer_list<Tensor*> parts);

}  // namespace gradlibra
