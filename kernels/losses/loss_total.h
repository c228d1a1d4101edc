// SPDX-License-Identifier: MIT
// Host side: what losses share, from rows to one number.
#pragma once

#include <cstdint>

#include "kernels/parallel.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// loss[0] = scale * the sum over rows: row(i, sum) adds row i's part to `sum`. `grain` rows make a partial sum, the sum
// of those is taken in order. workspace: one double for each of them.
template <class Row>
void sum_loss(Cpu& cpu, int64_t rows, int64_t grain, double scale, View<double> loss, View<double> workspace,
              Row&& row) {
  parallel_chunks(cpu, rows, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) row(i, sum);
    workspace[chunk] = sum;
  });
  double total = 0;
  for (int64_t chunk = 0; chunk < chunk_count(rows, grain); ++chunk) total += workspace[chunk];
  loss[0] = scale * total;
}

}  // namespace gradlibra::kernels
