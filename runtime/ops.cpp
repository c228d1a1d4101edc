// SPDX-License-Identifier: MIT
#include "runtime/ops.h"

#include <algorithm>
#include <memory>

#include "kernels/batch_norm_fold.h"
#include "kernels/copy_rows.h"
#include "kernels/deform_im2col.h"
#include "kernels/elementwise.h"
#include "kernels/group_norm.h"
#include "kernels/reduce.h"
#include "kernels/upsample_add.h"

namespace gradlibra::ops {

namespace {

// The gradient of what went into y's activation. It replaces output.grad, which nothing else reads, except under inspection, where
// the gradient of y itself is to be seen: then it lies in `scratch`. A gradient of a bias that can be had in the same pass over the map is
// computed here, and `bias` is then empty.
ConstMap grad_before_activation(Tape& tape, Var y, Activation activation, Tensor& scratch,
                                Tape::GradTarget<float>& bias) {
  Tensor* grad = &y.node().grad;
  if (activation == Activation::none) return *grad;
  tape.await_readers(grad->data());
  if (tape.mode() == Tape::Mode::inspection) {
    scratch = tape.context().empty(y.shape(), y.dtype());
    grad = &scratch;
  }
  if (bias.grad.data() == nullptr) {
    tape.run_map(y, [&]<class T>(auto& device) {
      kernels::relu_backward<T>(device, y.view<T>(), Tape::grad<T>(y), grad->view<T>(), Accumulate::overwrite);
    });
    return *grad;
  }
  const int64_t C = y.dim(-1);
  Tensor workspace = tape.context().empty({kernels::sum_rows_workspace(y.shape().size() / std::max<int64_t>(C, 1), C)});
  tape.run_map(y, [&]<class T>(auto& device) {
    kernels::relu_backward_sum_rows<T>(device, y.view<T>(), Tape::grad<T>(y), grad->view<T>(), bias.grad, bias.mode,
                                       workspace.view());
  });
  bias.grad = {};
  return *grad;
}

// A weight or bias as a convolution of x takes it: as it is, or rounded to bfloat16. What the store has not rounded is rounded here.
ConstMap weight_like(Tape& tape, Var x, Var weight, Tensor& scratch) {
  if (x.dtype() == DType::f32) return weight.view();
  const Tensor& rounded = weight.node().rounded;
  if (!rounded.empty()) return rounded;
  scratch = tape.context().empty(weight.shape(), x.dtype());
  tape.run([&](auto& device) { kernels::cast(device, weight.view(), scratch.view<bfloat16>()); });
  tape.context().convolution().weight_changed(scratch.data());
  return scratch;
}

Shape conv_output(const char* op, Var x, Var weight, const kernels::ConvShape& shape) {
  require(x.shape().rank() == 4 && weight.shape().rank() == 4, op, "x and weight have four dimensions");
  return {x.dim(0), kernels::conv_size(x.dim(1), weight.dim(1), shape),
          kernels::conv_size(x.dim(2), weight.dim(2), shape), weight.dim(0)};
}

// A closure must be copyable for std::function; what it owns is not.
template <class T>
std::shared_ptr<T> shared(T value) {
  return std::make_shared<T>(std::move(value));
}

}  // namespace

Var conv2d(Tape& tape, Var x, Var weight, Var bias, const kernels::ConvShape& shape, Activation activation) {
  Var y = tape.make(conv_output("conv2d", x, weight, shape),
                    x.requires_grad() || weight.requires_grad() || bias.requires_grad(), x.dtype());
  Convolution& library = tape.context().convolution();
  if (tape.computes()) {
    Tensor scratch, scratch_bias;
    library.forward({.x = x.node().value,
                     .weight = weight_like(tape, x, weight, scratch),
                     .bias = bias ? weight_like(tape, x, bias, scratch_bias) : ConstMap(),
                     .shape = shape,
                     .activation = activation,
                     .y = y.node().value});
  }
  tape.on_backward(y, [=, &tape, &library] {
    Tensor scratch, scratch_weight;
    Tape::GradTarget<float> grad_bias{{}, Accumulate::overwrite};
    if (weight.requires_grad() && bias.requires_grad()) grad_bias = tape.grad_of(bias);
    const ConstMap grad_y = grad_before_activation(tape, y, activation, scratch, grad_bias);
    if (weight.requires_grad()) {
      const auto grad_weight = tape.grad_of(weight);  // written as often as the bias's
      library.backward_weight(x.node().value, grad_y, shape, grad_weight.grad, grad_bias.grad, grad_weight.mode);
    }
    if (x.requires_grad()) {
      const auto grad_x = tape.grad_map_of(x);
      library.backward_data(grad_y, weight_like(tape, x, weight, scratch_weight), shape, grad_x.grad, grad_x.mode);
    }
  });
  return y;
}

FoldedNorm fold_batch_norm(Tape& tape, Var weight, Var gamma, Var beta, const BatchNormBuffers& buffers, DType maps) {
  FoldedNorm folded{shared(tape.buffer(weight.shape(), maps)), shared(tape.buffer(gamma.shape(), maps))};
  if (!tape.computes()) return folded;
  const auto fold = [&]<class T>(T) {
    tape.run([&](auto& device) {
      kernels::fold_batch_norm<T>(device, weight.view(), gamma.view(), beta.view(),
                                  std::as_const(buffers.running_mean->value).view(),
                                  std::as_const(buffers.running_var->value).view(), buffers.eps,
                                  folded.weight->template view<T>(), folded.bias->template view<T>());
    });
  };
  maps == DType::bf16 ? fold(bfloat16{}) : fold(0.0f);
  tape.context().convolution().weight_changed(folded.weight->data());
  return folded;
}

Var conv2d_batch_norm(Tape& tape, Var x, Var weight, Var gamma, Var beta, const BatchNormBuffers& buffers,
                      const kernels::ConvShape& shape, Var residual, Activation activation, FoldedNorm folded) {
  Var y = tape.make(conv_output("conv2d_batch_norm", x, weight, shape),
                    x.requires_grad() || weight.requires_grad() || gamma.requires_grad() || residual.requires_grad(),
                    x.dtype());
  Convolution& library = tape.context().convolution();
  const Node &mean = *buffers.running_mean, &var = *buffers.running_var;
  const float eps = buffers.eps;
  if (folded.weight == nullptr) folded = fold_batch_norm(tape, weight, gamma, beta, buffers, x.dtype());
  const std::shared_ptr<Tensor> folded_weight = folded.weight;
  if (tape.computes()) {
    library.forward({.x = x.node().value,
                     .weight = *folded_weight,
                     .bias = *folded.bias,
                     .residual = residual ? ConstMap(residual.node().value) : ConstMap(),
                     .shape = shape,
                     .activation = activation,
                     .y = y.node().value});
  }
  folded = {};  // the bias is not needed any more
  tape.on_backward(y, [=, &tape, &library, &mean, &var] {
    Tensor scratch, grad_folded_bias;
    Tape::GradTarget<float> grad_bias{{}, Accumulate::overwrite};
    const bool trains = weight.requires_grad() || gamma.requires_grad();
    if (trains) {
      grad_folded_bias = tape.context().empty(gamma.shape());
      grad_bias.grad = grad_folded_bias.view();
    }
    const ConstMap grad_y = grad_before_activation(tape, y, activation, scratch, grad_bias);
    const auto train = [&] {
      Tensor grad_folded = tape.context().empty(weight.shape(), x.dtype());
      library.backward_weight(x.node().value, grad_y, shape, grad_folded, grad_bias.grad, Accumulate::overwrite);
      const auto target = [&](Var v) {
        return v.requires_grad() ? tape.grad_of(v) : Tape::GradTarget<float>{{}, Accumulate::overwrite};
      };
      const auto grad_weight = target(weight), grad_gamma = target(gamma), grad_beta = target(beta);
      tape.run_map(x, [&]<class T>(auto& device) {
        kernels::fold_batch_norm_backward<T>(device, weight.view(), gamma.view(), mean.value.view(), var.value.view(),
                                             eps, grad_folded.view<T>(), grad_folded_bias.view(), grad_weight.grad,
                                             grad_weight.mode, grad_gamma.grad, grad_gamma.mode, grad_beta.grad,
                                             grad_beta.mode);
      });
    };
    if (trains) {
      tape.aside({x.node().value.data(), grad_y.data(), grad_folded_bias.data()}, train);
      tape.keep_for_asides(std::move(grad_folded_bias));
    }
    if (x.requires_grad()) {
      const auto grad_x = tape.grad_map_of(x);
      library.backward_data(grad_y, *folded_weight, shape, grad_x.grad, grad_x.mode);
    }
    // Last: the gradient's own memory may be handed on.
    if (!residual.requires_grad()) return;
    if (scratch.empty()) return tape.pass_grad(y, residual);
    tape.run_map(y, [&]<class T>(auto& device) {
      const auto target = tape.grad_of<T>(residual);
      kernels::copy<T>(device, scratch.view<T>(), target.grad, target.mode);
    });
  });
  return y;
}

Var deform_conv2d(Tape& tape, Var x, Var offsets, Var weight, Activation activation) {
  const int64_t N = x.dim(0), H = x.dim(1), W = x.dim(2), C = x.dim(3), O = weight.dim(0),
                taps = weight.dim(1) * weight.dim(2);
  const int kernel = static_cast<int>(weight.dim(1));
  Var y = tape.make({N, H, W, O}, x.requires_grad() || offsets.requires_grad() || weight.requires_grad(), x.dtype());
  Context& context = tape.context();
  Convolution& library = context.convolution();
  // The columns times the weight matrix: a 1x1 convolution with taps * C input channels.
  const Shape columns_shape{N, H, W, taps, C}, rows_shape{N, H, W, taps * C}, matrix{O, 1, 1, taps * C};
  const auto sample = [=, &tape](Tensor& columns) {
    tape.run_map(x, [&]<class T>(auto& device) {
      kernels::deform_im2col<T>(device, x.view<T>(), offsets.view(), kernel, columns.view<T>());
    });
  };

  // Nine times as large as the map they come from: kept for the gradient of the weight, or computed again.
  auto kept = shared(Tensor());
  if (tape.computes()) {
    Tensor columns = context.empty(columns_shape, x.dtype()), scratch;
    sample(columns);
    library.forward({.x = Map(columns).reshaped(rows_shape),
                     .weight = weight_like(tape, x, weight, scratch).reshaped(matrix),
                     .activation = activation,
                     .y = y.node().value});
    if (tape.recording() && weight.requires_grad() && context.keeps_columns()) *kept = std::move(columns);
  }
  tape.on_backward(y, [=, &tape, &context, &library] {
    Tensor scratch, scratch_weight;
    Tape::GradTarget<float> no_bias{{}, Accumulate::overwrite};
    const ConstMap grad_rows = grad_before_activation(tape, y, activation, scratch, no_bias);
    const bool sampled = !kept->empty();
    Tensor cols = sampled ? std::move(*kept) : context.empty(columns_shape, x.dtype());
    const Map rows = Map(cols).reshaped(rows_shape);
    if (weight.requires_grad()) {
      if (!sampled) sample(cols);
      const auto target = tape.grad_of(weight);
      library.backward_weight(rows, grad_rows, {}, View<float>(target.grad.data(), matrix), {}, target.mode);
    }
    if (!x.requires_grad() && !offsets.requires_grad()) return;
    library.backward_data(grad_rows, weight_like(tape, x, weight, scratch_weight).reshaped(matrix), {}, rows,
                          Accumulate::overwrite);
    tape.run_map(x, [&]<class T>(auto& device) {
      const View<const T> grad_columns = std::as_const(cols).view<T>();
      if (offsets.requires_grad()) {
        const auto target = tape.grad_of(offsets);
        kernels::deform_im2col_backward_offsets<T>(device, x.view<T>(), offsets.view(), grad_columns, kernel,
                                                   target.grad, target.mode);
      }
      if (x.requires_grad()) {
        const auto target = tape.grad_of<T>(x);
        const bool on_host = context.on_host();
        Tensor workspace =
            context.empty({on_host ? 0 : kernels::deform_im2col_workspace(x.shape(), kernel)}, DType::i32);
        kernels::deform_im2col_backward_data<T>(device, offsets.view(), grad_columns, kernel, target.grad, target.mode,
                                                workspace.view<int32_t>());
      }
    });
  });
  return y;
}

Var batch_norm(Tape& tape, Var x, Var weight, Var bias, const BatchNormBuffers& buffers, kernels::BatchNormMode mode,
               Activation activation) {
  const int64_t C = x.dim(-1);
  Context& context = tape.context();
  Var y = tape.make(x.shape(), x.requires_grad() || weight.requires_grad(), x.dtype());
  auto mean = shared(tape.buffer({C}));
  auto rstd = shared(tape.buffer({C}));
  const int64_t rows = C > 0 ? x.shape().size() / C : 0;
  tape.run_map(x, [&]<class T>(auto& device) {
    if (mode == kernels::BatchNormMode::batch) {
      Tensor workspace = context.empty({kernels::batch_norm_workspace(rows, C)});
      kernels::batch_norm_statistics<T>(device, x.view<T>(), buffers.eps, buffers.momentum, mean->view(), rstd->view(),
                                        buffers.running_mean->value.view(), buffers.running_var->value.view(),
                                        workspace.view());
    } else {
      kernels::copy(device, buffers.running_mean->value.view(), mean->view(), Accumulate::overwrite);
      kernels::reciprocal_std(device, buffers.running_var->value.view(), buffers.eps, rstd->view());
    }
    kernels::batch_norm<T>(device, x.view<T>(), mean->view(), rstd->view(), weight.view(), bias.view(), activation,
                           y.out<T>());
  });
  tape.on_backward(y, [=, &tape] {
    View<float> grad_weight, grad_bias;
    Accumulate mode_params = Accumulate::overwrite;
    if (weight.requires_grad()) {
      const auto target = tape.grad_of(weight);
      grad_weight = target.grad;
      mode_params = target.mode;
      grad_bias = tape.grad_of(bias).grad;
    }
    Tensor workspace = tape.context().empty({kernels::batch_norm_workspace(rows, C)});
    tape.run_map(x, [&]<class T>(auto& device) {
      Tape::GradTarget<T> grad_x{{}, Accumulate::overwrite};
      if (x.requires_grad()) grad_x = tape.grad_of<T>(x);
      kernels::batch_norm_backward<T>(device, x.view<T>(), y.view<T>(), Tape::grad<T>(y), mean->view(), rstd->view(),
                                      weight.view(), activation, mode, grad_x.grad, grad_x.mode, grad_weight, grad_bias,
                                      mode_params, workspace.view());
    });
  });
  return y;
}

Var group_norm(Tape& tape, Var x, Var weight, Var bias, int groups, float eps, Activation activation) {
  Var y = tape.make(x.shape(), x.requires_grad() || weight.requires_grad(), x.dtype());
  auto mean = shared(tape.buffer({x.dim(0), groups}));
  auto rstd = shared(tape.buffer({x.dim(0), groups}));
  {
    Tensor workspace = tape.buffer({kernels::group_norm_workspace(x.shape(), groups)});
    tape.run_map(x, [&]<class T>(auto& device) {
      kernels::group_norm<T>(device, x.view<T>(), weight.view(), bias.view(), groups, eps, activation, y.out<T>(),
                             mean->view(), rstd->view(), workspace.view());
    });
  }
  tape.on_backward(y, [=, &tape] {
    // The kernel computes all three gradients; what a constant input does not want goes into scratch memory.
    Tensor scratch_x, scratch_weight, scratch_bias;
    const auto target = [&]<class T>(Var v, Tensor& scratch) -> Tape::GradTarget<T> {
      if (v.requires_grad()) return tape.grad_of<T>(v);
      scratch = tape.context().empty(v.shape(), v.dtype());
      return {scratch.view<T>(), Accumulate::overwrite};
    };
    const auto grad_weight = target.operator()<float>(weight, scratch_weight),
               grad_bias = target.operator()<float>(bias, scratch_bias);
    Tensor workspace = tape.context().empty({kernels::group_norm_workspace(x.shape(), groups)});
    tape.run_map(x, [&]<class T>(auto& device) {
      const auto grad_x = target.template operator()<T>(x, scratch_x);
      kernels::group_norm_backward<T>(device, x.view<T>(), y.view<T>(), Tape::grad<T>(y), weight.view(), mean->view(),
                                      rstd->view(), groups, activation, grad_x.grad, grad_x.mode, grad_weight.grad,
                                      grad_bias.grad, grad_weight.mode, workspace.view());
    });
  });
  return y;
}

Var relu(Tape& tape, Var x) {
  Var y = tape.make(x.shape(), x.requires_grad(), x.dtype());
  tape.run_map(x, [&]<class T>(auto& device) { kernels::relu<T>(device, x.view<T>(), y.out<T>()); });
  tape.on_backward(y, [=, &tape] {
    tape.run_map(x, [&]<class T>(auto& device) {
      const auto target = tape.grad_of<T>(x);
      kernels::relu_backward<T>(device, y.view<T>(), Tape::grad<T>(y), target.grad, target.mode);
    });
  });
  return y;
}

Var add_relu(Tape& tape, Var a, Var b) {
  Var y = tape.make(a.shape(), a.requires_grad() || b.requires_grad(), a.dtype());
  tape.run_map(a, [&]<class T>(auto& device) { kernels::add_relu<T>(device, a.view<T>(), b.view<T>(), y.out<T>()); });
  tape.on_backward(y, [=, &tape] {
    for (const Var& input : {a, b}) {
      if (!input.requires_grad()) continue;
      tape.run_map(y, [&]<class T>(auto& device) {
        const auto target = tape.grad_of<T>(input);
        kernels::relu_backward<T>(device, y.view<T>(), Tape::grad<T>(y), target.grad, target.mode);
      });
    }
  });
  return y;
}

Var to_float(Tape& tape, Var x) {
  if (x.dtype() == DType::f32) return x;
  Var y = tape.make(x.shape(), x.requires_grad());
  tape.run([&](auto& device) { kernels::cast(device, x.view<bfloat16>(), y.out()); });
  tape.on_backward(y, [=, &tape] {
    const auto target = tape.grad_of<bfloat16>(x);
    tape.run([&](auto& device) { kernels::cast(device, Tape::grad(y), target.grad, target.mode); });
  });
  return y;
}

Var max_pool(Tape& tape, Var x, const kernels::PoolShape& shape) {
  const Shape out{x.dim(0), kernels::pooled_size(x.dim(1), shape), kernels::pooled_size(x.dim(2), shape), x.dim(3)};
  Var y = tape.make(out, x.requires_grad(), x.dtype());
  auto taps = shared(tape.buffer(out, DType::u8));
  tape.run_map(x, [&]<class T>(auto& device) {
    kernels::max_pool<T>(device, x.view<T>(), shape, y.out<T>(), taps->template view<uint8_t>());
  });
  tape.on_backward(y, [=, &tape] {
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
  tape.on_backward(y, [=, &tape] {
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
  const std::vector<Var> inputs(levels.begin(), levels.end());
  tape.on_backward(y, [=, &tape] {
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

Var subtract_row(Tape& tape, Var x, const Tensor& row, float grad_factor) {
  Var y = tape.make(x.shape(), x.requires_grad());
  tape.run([&](auto& device) { kernels::subtract_row(device, x.view(), row.view(), y.out()); });
  tape.on_backward(y, [=, &tape] {
    const auto target = tape.grad_of(x);
    tape.run([&](auto& device) { kernels::scale(device, Tape::grad(y), grad_factor, target.grad, target.mode); });
  });
  return y;
}

Var add_detached(Tape& tape, Var a, Var b) {
  Var y = tape.make(a.shape(), a.requires_grad());
  tape.run([&](auto& device) { kernels::add(device, a.view(), b.view(), y.out()); });
  tape.on_backward(y, [=, &tape] { tape.pass_grad(y, a); });
  return y;
}

Var points_to_boxes(Tape& tape, Var offsets, const Tensor& priors, Var moment, kernels::BoxTransform transform,
                    float moment_mul) {
  const int64_t N = offsets.dim(0), P = offsets.dim(1);
  Var boxes = tape.make({N, P, 4}, offsets.requires_grad());
  const View<const float> m = moment ? moment.view() : View<const float>();
  tape.run([&](auto& device) {
    kernels::points_to_boxes(device, offsets.view(), priors.view(), m, transform, boxes.out());
  });
  tape.on_backward(boxes, [=, &tape, &priors] {
    const auto target = tape.grad_of(offsets);
    View<float> grad_moment;
    Accumulate mode_moment = Accumulate::overwrite;
    if (moment.requires_grad()) {
      const auto moment_target = tape.grad_of(moment);
      grad_moment = moment_target.grad;
      mode_moment = moment_target.mode;
    }
    Tensor workspace = tape.context().empty({kernels::points_to_boxes_workspace(N * P)});
    tape.run([&](auto& device) {
      kernels::points_to_boxes_backward(device, offsets.view(), priors.view(), m, transform, moment_mul,
                                        Tape::grad(boxes), target.grad, target.mode, grad_moment, mode_moment,
                                        workspace.view());
    });
  });
  return boxes;
}

}  // namespace gradlibra::ops
