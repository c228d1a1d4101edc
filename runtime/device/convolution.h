// SPDX-License-Identifier: MIT
// Who computes convolutions: oneDNN, cuDNN or the plain kernels, behind one interface.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/activation.h"
#include "kernels/convolution/conv2d.h"
#include "runtime/device/map.h"

namespace gradlibra {

class Context;

// Shapes as in kernels/convolution/conv2d.h: x (N, H, W, C), weight (K, R, S, C), bias (K) or empty, y (N, P, Q, K). A
// matrix product of rows (R, C) with a weight (K, C) is a 1x1 convolution of a map (1, R, 1, C). Maps, weights and
// biases of one call have one type, float or bfloat16; the gradients of weights and biases are float, and so are all
// sums.
class Convolution {
 public:
  virtual ~Convolution() = default;

  // y = activation(x * weight + residual + bias): the end of a residual block in one call.
  struct Forward {
    ConstMap x, weight;
    ConstMap bias;      // of y's type; may be empty
    ConstMap residual;  // of y's shape and type; may be empty
    kernels::ConvShape shape;
    kernels::Activation activation = kernels::Activation::none;
    Map y;
    template <class T>
    [[nodiscard]] View<const T> bias_view() const {
      return bias.empty() ? View<const T>() : bias.view<T>();
    }
    template <class T>
    [[nodiscard]] View<const T> residual_view() const {
      return residual.empty() ? View<const T>() : residual.view<T>();
    }
  };
  virtual void forward(const Forward& call) = 0;
  virtual void backward_data(ConstMap grad_y, ConstMap weight, const kernels::ConvShape& shape, Map grad_x,
                             Accumulate mode) = 0;
  // grad_weight is float, or of the maps' type where it is overwritten: what reads it once is spared a pass. An empty
  // grad_bias skips it.
  virtual void backward_weight(ConstMap x, ConstMap grad_y, const kernels::ConvShape& shape, Map grad_weight,
                               View<float> grad_bias, Accumulate mode) = 0;
  // All weights may have changed (an optimiser step, a load), or the one at this address: whatever was derived is
  // stale.
  virtual void weights_changed() {}
  virtual void weight_changed(const void* /*weight*/) {}

  // Of the shapes met so far whose convolution has a bias, a residual or an activation behind it: how many do all in
  // one call of the library, and which ones need a pass of their own for that. Nothing where the library keeps no
  // plans.
  struct Fusion {
    int64_t fused = 0;
    std::vector<std::string> apart;
  };
  [[nodiscard]] virtual Fusion fusion() const { return {}; }

  // Matrix products that two libraries were timed for, with both times in milliseconds.
  struct TimedProduct {
    std::string problem;
    double cublaslt = 0, cudnn = 0;
  };
  [[nodiscard]] virtual std::vector<TimedProduct> timed_products() const { return {}; }
};

// How float convolutions multiply on a GPU. bfloat16 maps use tensor cores in either case.
enum class FloatMath {
  fp32,  // as the CPU does
  tf32,  // tensor cores: inputs are rounded to ten bits of mantissa, several times faster
};
enum class ConvTuning {
  heuristic,  // the plan that cuDNN thinks best
  // The fastest of a few, measured at a shape's first call. Which one wins, and the bits with it, may differ between
  // runs.
  timed,
};
// Who computes matrix products: 1x1 convolutions of stride 1 and the products of deformable convolutions.
enum class MatrixProducts {
  automatic,  // with ConvTuning::timed the faster of the two, problem by problem; else by a rule (prefers_cublaslt)
  cudnn,
};
struct CudnnOptions {
  FloatMath float_math = FloatMath::fp32;
  ConvTuning tuning = ConvTuning::heuristic;
  MatrixProducts products = MatrixProducts::automatic;
  bool deterministic = true;  // leave out engines that add in an order of their own each time
  // The least that any plan may take for itself; a problem with large maps may take twice their size (CudnnPlan::find).
  int64_t workspace_limit_bytes = int64_t{256} << 20;
};

// kernels/convolution/conv2d on the context's executor: the oracle, and the fallback.
[[nodiscard]] std::unique_ptr<Convolution> make_plain_convolution(Context& context);
// oneDNN on the host; null in a build without it.
[[nodiscard]] std::unique_ptr<Convolution> make_onednn_convolution(Context& context);
// cuDNN on the context's GPU; null in a build without it, and for a context on the host. std::runtime_error if the
// cuDNN that was loaded is not one for this program.
[[nodiscard]] std::unique_ptr<Convolution> make_cudnn_convolution(Context& context, const CudnnOptions& options);
// Gives a library that knows float alone the bfloat16 calls: maps are widened before, the result is rounded after. For
// tests and for hosts, where mixed precision is there to be compared, not to be fast.
[[nodiscard]] std::unique_ptr<Convolution> make_widening_convolution(Context& context,
                                                                     std::unique_ptr<Convolution> float_only);
// On a host: rounds the factors of float products as TF32 does, and lets `exact` do the rest.
[[nodiscard]] std::unique_ptr<Convolution> make_tf32_convolution(Context& context, std::unique_ptr<Convolution> exact);

}  // namespace gradlibra
