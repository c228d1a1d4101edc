// SPDX-License-Identifier: MIT
#include "models/rank_sums.h"

namespace gradlibra {

void sum_over_ranks(Tape& tape, Communicator& ranks, std::initializer_list<Tensor*> parts) {
  if (ranks.world_size() == 1) return;
  Context& context = tape.context();
  int64_t size = 0;
  for (const Tensor* part : parts) size += part->empty() ? 0 : part->size();
  Tensor packed = context.empty({size}, DType::f64);
  const auto for_each_place = [&](auto&& copy) {
    double* place = packed.view<double>().data();
    for (Tensor* part : parts) {
      if (part->empty()) continue;
      Tensor there = Tensor::borrow(place, part->shape());
      copy(*part, there);
      place += part->size();
    }
  };
  for_each_place([&](Tensor& part, Tensor& there) { context.copy(part, there); });
  ranks.sum(packed.view<double>());
  for_each_place([&](Tensor& part, Tensor& there) { context.copy(there, part); });
}

}  // namespace gradlibra
