// SPDX-License-Identifier: MIT
#include "runtime/autograd/ops/resample.h"

#include "kernels/copy_rows.h"
#include "kernels/upsample_add.h"
#include "runtime/autograd/ops/shared.h"

namespace gradlibra::ops {

Var max_pool(Tape& tape, Var x, const kernels::PoolShape& shape) {
  const Shape out{x.dim(0), kernels::pooled_size(x.dim(1), shape), kernels::pooled_size(x.dim(2), shape), x.dim(3)};
  Var y = tape.make(out, x.requires_grad(), x.dtype());
  auto taps = shared(tape.buffer(out, DType::u8));
  tape.run_map(x, [&]<class T>(auto& device) {
    kernels::max_pool<T>(device, x.view<T>(), shape, y.out<T>(), taps->template view<uint8_t>());
  });
  tape.on_backward(y, {x}, [=, &tape] {
    tape.run_map(x, [&]<class T>(auto& device) {
      const auto target = tape.grad_of<T>(x);
      kernels::max_pool_backward<T>(device, Tape::grad<T>(y), taps->template view<uint8_t>(), shape, target.grad,
                                    target.mode);
    });
  });
  return y;
}

// A max pool with a 1x1 window is exactly the selection of every second cell.
Var subsample2(Tape& tape, Var x) { return max_pool(tape, x, {.kernel = 1, .stride = 2, .padding = 0}); }

Var upsample_add(Tape& tape, Var coarse, Var fine) {
  Var y = tape.make(fine.shape(), coarse.requires_grad() || fine.requires_grad(), fine.dtype());
  tape.run_map(fine, [&]<class T>(auto& device) {
    kernels::upsample_add<T>(device, coarse.view<T>(), fine.view<T>(), y.out<T>());
  });
  tape.on_backward(y, {coarse, fine}, [=, &tape] {
    if (coarse.requires_grad()) {
      tape.run_map(fine, [&]<class T>(auto& device) {
        const auto target = tape.grad_of<T>(coarse);
        kernels::upsample_add_backward<T>(device, Tape::grad<T>(y), target.grad, target.mode);
      });
    }
    if (fine.requires_grad()) tape.pass_grad(y, fine);
  });
  return y;
}

Var concat_levels(Tape& tape, std::span<const Var> levels) {
  require(!levels.empty(), "concat_levels", "no levels");
  const int64_t N = levels[0].dim(0), C = levels[0].dim(-1);
  int64_t total = 0;
  bool requires_grad = false;
  for (const Var& level : levels) {
    require(level.dim(0) == N && level.dim(-1) == C, "concat_levels", "levels differ in batch size or channels");
    total += level.dim(1) * level.dim(2);
    requires_grad |= level.requires_grad();
  }
  Var y = tape.make({N, total, C}, requires_grad);
  int64_t offset = 0;
  for (const Var& level : levels) {
    const int64_t rows = level.dim(1) * level.dim(2);
    const View<const float> x(level.view().data(), {N, rows, C});
    tape.run([&](auto& device) { kernels::copy_rows(device, x, 0, y.out(), offset, rows, Accumulate::overwrite); });
    offset += rows;
  }
  std::vector<Var> inputs(levels.begin(), levels.end());
  tape.on_backward(y, inputs, [=, &tape] {
    int64_t first = 0;
    for (const Var& level : inputs) {
      const int64_t rows = level.dim(1) * level.dim(2);
      if (level.requires_grad()) {
        const auto target = tape.grad_of(level);
        const View<float> grad(target.grad.data(), {N, rows, C});
        tape.run([&](auto& device) { kernels::copy_rows(device, Tape::grad(y), first, grad, 0, rows, target.mode); });
      }
      first += rows;
    }
  });
  return y;
}

}  // namespace gradlibra::ops
