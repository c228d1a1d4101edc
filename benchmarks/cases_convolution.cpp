// SPDX-License-Identifier: MIT
// The convolutions of the network through the context's Convolution, one row per distinct shape; deformable ones as the
// network computes them (columns, then a product); and the project's own plain kernels.
#include <fmt/format.h>

#include <set>

#include "benchmarks/cases.h"
#include "kernels/convolution/conv2d.h"
#include "kernels/convolution/deform_conv2d.h"
#include "kernels/convolution/deform_im2col.h"

namespace gradlibra {

namespace {

using kernels::Activation;
using kernels::ConvShape;

struct NetworkConv {
  int64_t side, in, out;  // of a square map
  int kernel, stride = 1;
  bool on_image = false;    // no gradient by its input
  bool ends_block = false;  // of a residual network

  [[nodiscard]] ConvShape shape() const { return {.stride = stride, .padding = kernel / 2}; }
  [[nodiscard]] Shape x(int64_t N) const { return {N, side, side, in}; }
  [[nodiscard]] Shape weight() const { return {out, kernel, kernel, in}; }
  [[nodiscard]] Shape y(int64_t N) const {
    const int64_t p = kernels::conv_size(side, kernel, shape());
    return {N, p, p, out};
  }
  [[nodiscard]] double flops(int64_t N) const {
    return 2.0 * static_cast<double>(y(N).size()) * static_cast<double>(kernel * kernel * in);
  }
  [[nodiscard]] std::string name(int64_t N) const {
    return fmt::format("{} {}x{}{} to {}{}", x(N).to_string(), kernel, kernel, stride > 1 ? " /2" : "", out,
                       ends_block ? " + x" : "");
  }
};

// ResNet-50, FPN (C3 to C5 in, P6 from C5) and the RepPoints head, in the order of the network.
std::vector<NetworkConv> network_convolutions(const CaseSizes& sizes) {
  std::vector<NetworkConv> all{{sizes.size, 3, 64, 7, 2, true}};
  const int64_t head = sizes.channels;
  for (int s = 0; s < 4; ++s) {
    const int64_t width = int64_t{64} << s, out = 4 * width, in = s == 0 ? 64 : 2 * width;
    const int64_t side = sizes.size / (s == 0 ? 4 : int64_t{2} << s), after = sizes.size / (int64_t{4} << s);
    const int stride = s == 0 ? 1 : 2;
    all.insert(all.end(), {{side, in, width, 1},
                           {side, width, width, 3, stride},
                           {after, width, out, 1, 1, false, /*ends_block=*/true},
                           {side, in, out, 1, stride},  // shortcut
                           {after, out, width, 1},
                           {after, width, width, 3}});
    if (s > 0) all.push_back({after, out, head, 1});  // lateral
  }
  all.push_back({sizes.size / 32, 2048, head, 3, 2});                       // P6
  all.push_back({std::max<int64_t>(sizes.level(3), 1), head, head, 3, 2});  // P7
  for (int l = 0; l < kLevels; ++l) {
    const int64_t side = sizes.level_map(l)[1];
    all.insert(all.end(), {{side, head, head, 3}, {side, head, 18, 1}, {side, head, sizes.classes, 1}});
  }
  return all;
}

template <class T>
void add_one(const NetworkConv& conv, int64_t N, std::vector<KernelCase>& cases) {
  const auto effort = [=](double elements) { return Effort{elements * sizeof(T), conv.flops(N), /*is_matrix=*/true}; };
  const auto size_of_all = static_cast<double>(conv.x(N).size() + conv.weight().size() + conv.y(N).size());
  // As nearly all are in a step: with a bias (that of a norm), a residual where there is one, and ReLU.
  cases.push_back(
      {"convolution.forward", conv.name(N), dtype_name<T>(), [=](CaseMemory& m) {
         const View<T> x = m.random<T>(conv.x(N)), weight = m.random<T>(conv.weight()), bias = m.random<T>({conv.out}),
                       y = m.output<T>(conv.y(N));
         Convolution::Forward call{
             .x = x, .weight = weight, .bias = bias, .shape = conv.shape(), .activation = Activation::relu, .y = y};
         if (conv.ends_block) call.residual = m.random<T>(conv.y(N));
         const double elements = size_of_all + (conv.ends_block ? conv.y(N).size() : 0.0);
         return Work{effort(elements), [&library = m.context().convolution(), call] { library.forward(call); }};
       }});
  if (!conv.on_image)
    cases.push_back({"convolution.backward_data", conv.name(N), dtype_name<T>(), [=](CaseMemory& m) {
                       const View<T> grad_y = m.random<T>(conv.y(N)), weight = m.random<T>(conv.weight()),
                                     grad_x = m.output<T>(conv.x(N));
                       return Work{effort(size_of_all),
                                   [&library = m.context().convolution(), grad_y, weight, grad_x, conv] {
                                     library.backward_data(grad_y, weight, conv.shape(), grad_x, Accumulate::overwrite);
                                   }};
                     }});
  cases.push_back({"convolution.backward_weight", conv.name(N), dtype_name<T>(), [=](CaseMemory& m) {
                     const View<T> x = m.random<T>(conv.x(N)), grad_y = m.random<T>(conv.y(N));
                     const View<float> grad_weight = m.output(conv.weight());
                     return Work{
                         effort(size_of_all), [&library = m.context().convolution(), x, grad_y, grad_weight, conv] {
                           library.backward_weight(x, grad_y, conv.shape(), grad_weight, {}, Accumulate::overwrite);
                         }};
                   }});
}

// As ops::deform_conv2d: the columns of the map, then their product with the weight.
template <class T>
void add_deformable(const Shape& map, std::vector<KernelCase>& cases) {
  cases.push_back({"deform_conv2d", map.to_string(), dtype_name<T>(), [map](CaseMemory& m) {
                     const int64_t N = map[0], H = map[1], W = map[2], C = map[3], taps = 9;
                     const View<T> x = m.random<T>(map), columns = m.output<T>({N, H, W, taps, C}),
                                   weight = m.random<T>({C, 1, 1, taps * C}), y = m.output<T>(map);
                     const View<float> offsets = m.random({N, H, W, 2 * taps});
                     const Effort effort{bytes_of(x, weight, y) + bytes_of(offsets),
                                         2.0 * static_cast<double>(y.size()) * static_cast<double>(taps * C),
                                         /*is_matrix=*/true};
                     return m.work(effort, [=, &library = m.context().convolution()](auto& device) {
                       kernels::deform_im2col<T>(device, x, offsets, 3, columns);
                       library.forward({.x = View<T>(columns.data(), {N, H, W, taps * C}),
                                        .weight = weight,
                                        .activation = Activation::relu,
                                        .y = y});
                     });
                   }});
}

// The same in one kernel of our own: no columns in memory (docs/deformable_ladder.md).
void add_deformable_fused(const Shape& map, std::vector<KernelCase>& cases) {
  if (map[3] % 8 != 0) return;
  cases.push_back({"deform_conv2d.fused", map.to_string(), dtype_name<bfloat16>(), [map](CaseMemory& m) {
                     const int64_t N = map[0], H = map[1], W = map[2], C = map[3], taps = 9;
                     const View<bfloat16> x = m.random<bfloat16>(map), weight = m.random<bfloat16>({C, 3, 3, C}),
                                          y = m.output<bfloat16>(map);
                     const View<float> offsets = m.random({N, H, W, 2 * taps});
                     const Effort effort{bytes_of(x, weight, y) + bytes_of(offsets),
                                         2.0 * static_cast<double>(y.size()) * static_cast<double>(taps * C),
                                         /*is_matrix=*/true};
                     return m.work(effort, [=](auto& device) {
                       kernels::deform_conv2d(device, x, offsets, weight, 3, Activation::relu, y);
                     });
                   }});
}

// The plain kernels are the oracle, not what a network runs on: one small map shows how far they are from a library.
void add_plain(const Shape& map, std::vector<KernelCase>& cases) {
  const int64_t C = map[3];
  const Shape weight_shape{C, 3, 3, C};
  const ConvShape same{.padding = 1};
  const auto add = [&](const char* kernel, auto launch) {
    cases.push_back({kernel, map.to_string() + " 3x3", dtype_name<float>(), [=](CaseMemory& m) {
                       const View<float> a = m.random(map), b = m.output(map), weight = m.random(weight_shape);
                       const Effort effort{bytes_of(a, b, weight), 2.0 * static_cast<double>(map.size() * 9 * C), true};
                       return m.work(effort, [=](auto& device) { launch(device, a, b, weight); });
                     }});
  };
  add("conv2d", [=](auto& device, View<float> x, View<float> y, View<float> weight) {
    kernels::conv2d(device, x, weight, {}, same, y);
  });
  add("conv2d_backward_data", [=](auto& device, View<float> grad_y, View<float> grad_x, View<float> weight) {
    kernels::conv2d_backward_data(device, grad_y, weight, same, grad_x, Accumulate::overwrite);
  });
  add("conv2d_backward_weight", [=](auto& device, View<float> x, View<float> grad_y, View<float> grad_weight) {
    kernels::conv2d_backward_weight(device, x, grad_y, same, grad_weight, Accumulate::overwrite);
  });
}

}  // namespace

template <class T>
void add_convolution_cases(const CaseSizes& sizes, std::vector<KernelCase>& cases) {
  std::set<std::string> seen;
  for (const NetworkConv& conv : network_convolutions(sizes))
    if (seen.insert(conv.name(sizes.N)).second) add_one<T>(conv, sizes.N, cases);
  for (int l = 0; l < kLevels; ++l) add_deformable<T>(sizes.level_map(l), cases);
  if constexpr (std::is_same_v<T, bfloat16>)
    for (int l = 0; l < kLevels; ++l) add_deformable_fused(sizes.level_map(l), cases);
  if constexpr (std::is_same_v<T, float>) add_plain(sizes.level_map(3), cases);
}

template void add_convolution_cases<float>(const CaseSizes&, std::vector<KernelCase>&);
template void add_convolution_cases<bfloat16>(const CaseSizes&, std::vector<KernelCase>&);

}  // namespace gradlibra
