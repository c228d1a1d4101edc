// SPDX-License-Identifier: MIT
// Kernels on feature maps: elementwise, normalisation, pooling, pyramid, sampling.
#include <fmt/format.h>

#include "benchmarks/cases.h"
#include "kernels/convolution/bias_activation.h"
#include "kernels/convolution/deform_im2col.h"
#include "kernels/convolution/deform_modulation.h"
#include "kernels/convolution/space_to_depth.h"
#include "kernels/copy_rows.h"
#include "kernels/elementwise.h"
#include "kernels/image_normalize.h"
#include "kernels/max_pool.h"
#include "kernels/norms/batch_norm.h"
#include "kernels/norms/batch_norm_fold.h"
#include "kernels/norms/group_norm.h"
#include "kernels/reduce.h"
#include "kernels/upsample_add.h"

namespace gradlibra {

namespace {

using kernels::Activation;

template <class T>
class MapCases {
 public:
  MapCases(const CaseSizes& sizes, std::vector<KernelCase>& cases) : sizes_(sizes), cases_(cases) {}

  template <class Prepare>
  void add(const char* kernel, const Shape& shape, Prepare prepare) {
    add(kernel, shape, "", prepare);
  }
  template <class Prepare>
  void add(const char* kernel, const Shape& shape, const char* variant, Prepare prepare) {
    cases_.push_back({kernel, shape.to_string() + variant, dtype_name<T>(),
                      [prepare, shape](CaseMemory& memory) { return prepare(memory, shape); }});
  }

  void elementwise(const Shape& map) {
    add("fill", map, [](CaseMemory& m, const Shape& s) {
      const View<T> y = m.output<T>(s);
      return m.work({bytes_of(y)}, [=](auto& device) { kernels::fill<T>(device, y, 1.0f); });
    });
    add("copy", map, [](CaseMemory& m, const Shape& s) {
      const View<T> x = m.random<T>(s), y = m.output<T>(s);
      return m.work({bytes_of(x, y)}, [=](auto& device) { kernels::copy<T>(device, x, y, Accumulate::overwrite); });
    });
    add("scale", map, " add", [](CaseMemory& m, const Shape& s) {
      const View<T> x = m.random<T>(s), y = m.output<T>(s);
      return m.work({bytes_of(x, y, y)}, [=](auto& device) { kernels::scale<T>(device, x, 0.5f, y, Accumulate::add); });
    });
    add("relu", map, [](CaseMemory& m, const Shape& s) {
      const View<T> x = m.random<T>(s), y = m.output<T>(s);
      return m.work({bytes_of(x, y)}, [=](auto& device) { kernels::relu<T>(device, x, y); });
    });
    add("add_relu", map, [](CaseMemory& m, const Shape& s) {
      const View<T> a = m.random<T>(s), b = m.random<T>(s), y = m.output<T>(s);
      return m.work({bytes_of(a, b, y)}, [=](auto& device) { kernels::add_relu<T>(device, a, b, y); });
    });
    add("relu_backward", map, [](CaseMemory& m, const Shape& s) {
      const View<T> y = m.random<T>(s), grad_y = m.random<T>(s), grad_x = m.output<T>(s);
      return m.work({bytes_of(y, grad_y, grad_x)},
                    [=](auto& device) { kernels::relu_backward<T>(device, y, grad_y, grad_x, Accumulate::overwrite); });
    });
  }

  void bias_activation(const Shape& map) {
    add("bias_activation", map, [](CaseMemory& m, const Shape& s) {
      const View<T> x = m.random<T>(s), residual = m.random<T>(s), y = m.output<T>(s);
      const View<T> bias = m.random<T>({s.dim(-1)});
      return m.work({bytes_of(x, residual, y)},
                    [=](auto& device) { kernels::bias_activation<T>(device, x, bias, residual, Activation::relu, y); });
    });
  }

  void casts(const Shape& map) {
    add("cast", map, " to bf16", [](CaseMemory& m, const Shape& s) {
      const View<float> x = m.random(s);
      const View<bfloat16> y = m.output<bfloat16>(s);
      return m.work({bytes_of(x, y)}, [=](auto& device) { kernels::cast(device, x, y); });
    });
    add("cast", map, " from bf16", [](CaseMemory& m, const Shape& s) {
      const View<bfloat16> x = m.random<bfloat16>(s);
      const View<float> y = m.output(s);
      return m.work({bytes_of(x, y)}, [=](auto& device) { kernels::cast(device, x, y); });
    });
  }

  // Into a 3x3 convolution of as many channels: work on weights, whatever the map.
  void folded_norm(int64_t C) {
    const Shape weight{C, 3, 3, C}, c{C};
    add("fold_batch_norm", weight, [c](CaseMemory& m, const Shape& s) {
      const View<float> w = m.random(s), gamma = m.random(c), beta = m.random(c), mean = m.random(c),
                        var = m.random(c, 0.5, 2);
      const View<T> folded = m.output<T>(s), bias = m.output<T>(c);
      return m.work({bytes_of(w) + bytes_of(folded)}, [=](auto& device) {
        kernels::fold_batch_norm<T>(device, w, {gamma, beta, mean, var, 1e-5f}, folded, bias);
      });
    });
    add("fold_batch_norm_backward", weight, [c](CaseMemory& m, const Shape& s) {
      const View<float> w = m.random(s), gamma = m.random(c), mean = m.random(c), var = m.random(c, 0.5, 2),
                        from_bias = m.random(c), to_weight = m.output(s), to_gamma = m.output(c), to_beta = m.output(c);
      const View<T> from = m.random<T>(s);
      return m.work({bytes_of(w, to_weight) + bytes_of(from)}, [=](auto& device) {
        kernels::fold_batch_norm_backward<T>(device, w, {.gamma = gamma, .mean = mean, .var = var, .eps = 1e-5f},
                                             {from, from_bias}, {{to_weight}, {to_gamma}, {to_beta}});
      });
    });
  }

  void batch_norm(const Shape& map) {
    add("batch_norm_statistics", map, [](CaseMemory& m, const Shape& s) {
      const int64_t C = s[-1];
      const View<T> x = m.random<T>(s);
      const View<float> mean = m.output({C}), rstd = m.output({C}), running_mean = m.output({C}),
                        running_var = m.output({C}),
                        workspace = m.output({kernels::batch_norm_workspace(s.size() / C, C)});
      return m.work({bytes_of(x)}, [=](auto& device) {
        kernels::batch_norm_statistics<T>(device, {.x = x,
                                                   .eps = 1e-5f,
                                                   .mean = mean,
                                                   .rstd = rstd,
                                                   .running = {0.1f, running_mean, running_var},
                                                   .workspace = workspace});
      });
    });
    add("batch_norm", map, " relu", [](CaseMemory& m, const Shape& s) {
      const Shape c{s[-1]};
      const View<T> x = m.random<T>(s), y = m.output<T>(s);
      const View<float> mean = m.random(c), rstd = m.random(c, 0.5, 2), weight = m.random(c), bias = m.random(c);
      return m.work({bytes_of(x, y)}, [=](auto& device) {
        kernels::batch_norm<T>(device, {x, mean, rstd, weight, bias, Activation::relu, y});
      });
    });
    add("batch_norm_backward", map, " relu, batch", [](CaseMemory& m, const Shape& s) {
      const Shape c{s[-1]};
      const View<T> x = m.random<T>(s), y = m.random<T>(s), grad_y = m.random<T>(s), grad_x = m.output<T>(s);
      const View<float> mean = m.random(c), rstd = m.random(c, 0.5, 2), weight = m.random(c), grad_weight = m.output(c),
                        grad_bias = m.output(c),
                        workspace = m.output({kernels::batch_norm_workspace(s.size() / c[0], c[0])});
      return m.work({bytes_of(x, y, grad_y, grad_x)}, [=](auto& device) {
        kernels::batch_norm_backward<T>(device, {.x = x,
                                                 .y = y,
                                                 .grad_y = grad_y,
                                                 .mean = mean,
                                                 .rstd = rstd,
                                                 .weight = weight,
                                                 .activation = Activation::relu,
                                                 .grad_x = {grad_x},
                                                 .grad_weight = {grad_weight},
                                                 .grad_bias = {grad_bias},
                                                 .workspace = workspace});
      });
    });
  }

  void group_norm(const Shape& map) {
    static constexpr int kGroups = 32;
    add("group_norm", map, " relu", [](CaseMemory& m, const Shape& s) {
      const Shape c{s[-1]}, groups{s[0], kGroups};
      const View<T> x = m.random<T>(s), y = m.output<T>(s);
      const View<float> weight = m.random(c), bias = m.random(c), mean = m.output(groups), rstd = m.output(groups),
                        workspace = m.output({kernels::group_norm_workspace(s, kGroups)});
      return m.work({bytes_of(x, y)}, [=](auto& device) {
        kernels::group_norm<T>(device, {x, weight, bias, kGroups, 1e-5f, Activation::relu, y, mean, rstd, workspace});
      });
    });
    add("group_norm_backward", map, " relu", [](CaseMemory& m, const Shape& s) {
      const Shape c{s[-1]}, groups{s[0], kGroups};
      const View<T> x = m.random<T>(s), y = m.random<T>(s), grad_y = m.random<T>(s), grad_x = m.output<T>(s);
      const View<float> weight = m.random(c), mean = m.random(groups), rstd = m.random(groups, 0.5, 2),
                        grad_weight = m.output(c), grad_bias = m.output(c),
                        workspace = m.output({kernels::group_norm_workspace(s, kGroups)});
      return m.work({bytes_of(x, y, grad_y, grad_x)}, [=](auto& device) {
        kernels::group_norm_backward<T>(device,
                                        {.x = x,
                                         .y = y,
                                         .grad_y = grad_y,
                                         .mean = mean,
                                         .rstd = rstd,
                                         .weight = weight,
                                         .activation = Activation::relu,
                                         .grad_x = {grad_x},
                                         .grad_weight = {grad_weight},
                                         .grad_bias = {grad_bias},
                                         .workspace = workspace},
                                        kGroups);
      });
    });
  }

  void max_pool(const Shape& map) {
    const auto pooled = [](const Shape& s) {
      return Shape{s[0], kernels::pooled_size(s[1], {}), kernels::pooled_size(s[2], {}), s[3]};
    };
    add("max_pool", map, [pooled](CaseMemory& m, const Shape& s) {
      const View<T> x = m.random<T>(s), y = m.output<T>(pooled(s));
      const View<uint8_t> taps = m.output<uint8_t>(pooled(s));
      return m.work({bytes_of(x, y) + bytes_of(taps)},
                    [=](auto& device) { kernels::max_pool<T>(device, x, {}, y, taps); });
    });
    add("max_pool_backward", map, [pooled](CaseMemory& m, const Shape& s) {
      const View<T> grad_y = m.random<T>(pooled(s)), grad_x = m.output<T>(s);
      const View<uint8_t> taps = m.output<uint8_t>(pooled(s));
      return m.work({bytes_of(grad_x, grad_y) + bytes_of(taps)}, [=](auto& device) {
        kernels::max_pool_backward<T>(device, grad_y, taps, {}, grad_x, Accumulate::overwrite);
      });
    });
  }

  // `map` is the finer level, the coarser one has half its side.
  void upsample_add(const Shape& map) {
    const auto coarser = [](const Shape& s) { return Shape{s[0], (s[1] + 1) / 2, (s[2] + 1) / 2, s[3]}; };
    add("upsample_add", map, [coarser](CaseMemory& m, const Shape& s) {
      const View<T> coarse = m.random<T>(coarser(s)), fine = m.random<T>(s), y = m.output<T>(s);
      return m.work({bytes_of(coarse, fine, y)},
                    [=](auto& device) { kernels::upsample_add<T>(device, coarse, fine, y); });
    });
    add("upsample_add_backward", map, " add", [coarser](CaseMemory& m, const Shape& s) {
      const View<T> grad_y = m.random<T>(s), grad_coarse = m.output<T>(coarser(s));
      return m.work({bytes_of(grad_y, grad_coarse, grad_coarse)}, [=](auto& device) {
        kernels::upsample_add_backward<T>(device, grad_y, grad_coarse, Accumulate::add);
      });
    });
  }

  void deform(const Shape& map) {
    static constexpr int kKernel = 3, kTaps = kKernel * kKernel;
    struct Shapes {
      Shape offsets, columns, mask;
    };
    const auto shapes = [](const Shape& s) {
      return Shapes{{s[0], s[1], s[2], 2 * kTaps}, {s[0], s[1], s[2], kTaps, s[3]}, {s[0], s[1], s[2], kTaps}};
    };
    for (const auto& [masked, variant] : {std::pair(false, ""), std::pair(true, " masked")})
      add("deform_im2col", map, variant, [shapes, masked = masked](CaseMemory& m, const Shape& s) {
        const View<T> x = m.random<T>(s), columns = m.output<T>(shapes(s).columns);
        const View<float> offsets = m.random(shapes(s).offsets),
                          mask = masked ? m.random(shapes(s).mask, 0, 1) : View<float>();
        // Four corners per value.
        return m.work({bytes_of(x, columns) + bytes_of(offsets, mask), 8.0 * static_cast<double>(columns.size())},
                      [=](auto& device) { kernels::deform_im2col<T>(device, x, offsets, kKernel, columns, mask); });
      });
    // As the first and as a further convolution at the same points, and as a modulated one.
    struct Backward {
      bool sorted, masked;
      const char* variant;
    };
    for (const auto& [sorted, masked, variant] :
         {Backward{false, false, ""}, Backward{true, false, " sorted"}, Backward{false, true, " masked"}})
      add("deform_im2col_backward", map, variant,
          [shapes, sorted = sorted, masked = masked](CaseMemory& m, const Shape& s) {
            const View<T> x = m.random<T>(s), grad_columns = m.random<T>(shapes(s).columns), grad_x = m.output<T>(s);
            const View<float> offsets = m.random(shapes(s).offsets), grad_offsets = m.output(shapes(s).offsets),
                              products = m.output({kernels::deform_im2col_products<T>(s, kKernel)});
            const View<int32_t> samples = m.output<int32_t>({kernels::deform_im2col_workspace(s, kKernel)});
            const View<float> mask = masked ? m.random(shapes(s).mask, 0, 1) : View<float>(),
                              grad_mask = masked ? m.output(shapes(s).mask) : View<float>();
            const auto run = [=](auto& device, bool known) {
              kernels::deform_im2col_backward<T>(device, x, offsets, grad_columns, kKernel, {grad_x}, {grad_offsets},
                                                 {samples, products, known}, {mask, grad_mask});
            };
            m.context().run([&](auto& device) { run(device, false); });
            return m.work({bytes_of(x, grad_columns, grad_x) + bytes_of(offsets, grad_offsets, mask, grad_mask),
                           24.0 * static_cast<double>(grad_columns.size())},
                          [=](auto& device) { run(device, sorted); });
          });
  }

  // What a modulated deformable convolution has beside: offsets and masks out of one map.
  void modulation(const Shape& map) {
    static constexpr int64_t kTaps = 9;
    const auto channels = [](const Shape& s, int64_t count) { return Shape{s[0], s[1], s[2], count}; };
    add("split_modulation", map, [channels](CaseMemory& m, const Shape& s) {
      const View<const T> prediction = m.random<T>(channels(s, 3 * kTaps));
      const View<float> offsets = m.output(channels(s, 2 * kTaps)), mask = m.output(channels(s, kTaps));
      return m.work({bytes_of(prediction) + bytes_of(offsets, mask)},
                    [=](auto& device) { kernels::split_modulation<T>(device, prediction, offsets, mask); });
    });
    add("split_modulation_backward", map, [channels](CaseMemory& m, const Shape& s) {
      const View<T> prediction = m.random<T>(channels(s, 3 * kTaps)), grad = m.output<T>(channels(s, 3 * kTaps));
      const View<float> grad_offsets = m.random(channels(s, 2 * kTaps)), grad_mask = m.random(channels(s, kTaps));
      return m.work({bytes_of(prediction, grad) + bytes_of(grad_offsets, grad_mask)}, [=](auto& device) {
        kernels::split_modulation_backward<T>(device, prediction, grad_offsets, grad_mask, {grad});
      });
    });
  }

  void concat(const Shape& map) {
    const int64_t cells = sizes_.cells();
    // Two offsets for each of nine points.
    add("copy_rows", {map[0], map[1], map[2], 18}, [cells](CaseMemory& m, const Shape& s) {
      const int64_t level_cells = s[1] * s[2];
      const Shape level{s[0], level_cells, s[3]};
      const View<float> x = m.random(level), y = m.output({s[0], cells, s[3]});
      return m.work({2 * bytes_of(x)},
                    [=](auto& device) { kernels::copy_rows(device, x, 0, y, 0, level_cells, Accumulate::overwrite); });
    });
  }

  void bias_gradient(const Shape& map) {
    add("sum_rows", map, [](CaseMemory& m, const Shape& s) {
      const View<const T> x = m.random<T>(s);
      const View<float> out = m.output({s[-1]}),
                        workspace = m.output({kernels::sum_rows_workspace(s.size() / s[-1], s[-1])});
      return m.work({bytes_of(x)},
                    [=](auto& device) { kernels::sum_rows(device, x, out, Accumulate::overwrite, workspace); });
    });
  }

  void relu_backward_bias_gradient(const Shape& map) {
    add("relu_backward_sum_rows", map, [](CaseMemory& m, const Shape& s) {
      const View<const T> y = m.random<T>(s), grad_y = m.random<T>(s);
      const View<T> grad_x = m.output<T>(s);
      const View<float> out = m.output({s[-1]}),
                        workspace = m.output({kernels::sum_rows_workspace(s.size() / s[-1], s[-1])});
      return m.work({bytes_of(y, grad_y, grad_x)}, [=](auto& device) {
        kernels::relu_backward_sum_rows<T>(device, y, grad_y, grad_x, out, Accumulate::overwrite, workspace);
      });
    });
  }

  void space_to_depth(const Shape& map) {
    add("space_to_depth", map, [](CaseMemory& m, const Shape& s) {
      const View<const T> in = m.random<T>(s);
      const View<T> out = m.output<T>({s[0], s[1] / 2 + 3, s[2] / 2 + 3, 16});  // as for 7 x 7 taps
      return m.work({bytes_of(in, out)}, [=](auto& device) { kernels::space_to_depth<T>(device, in, -4, out); });
    });
  }

  void image(const Shape& map) {
    add("image_normalize", map, [](CaseMemory& m, const Shape& s) {
      const View<uint8_t> images = m.random<uint8_t>(s, 0, 256);
      const View<int32_t> orientations = m.random_int({s[0]}, 8);
      std::vector<int32_t> sides(static_cast<size_t>(2 * s[0]), static_cast<int32_t>(s[1]));
      const View<int32_t> sizes = m.upload<int32_t>({s[0], 2}, sides);
      const View<T> out = m.output<T>(s);
      return m.work({bytes_of(images) + bytes_of(out)},
                    [=](auto& device) { kernels::image_normalize<T>(device, images, orientations, sizes, {}, out); });
    });
  }

 private:
  const CaseSizes& sizes_;
  std::vector<KernelCase>& cases_;
};

}  // namespace

template <class T>
void add_map_cases(const CaseSizes& sizes, std::vector<KernelCase>& cases) {
  MapCases<T> add(sizes, cases);
  const auto stage = [&](int64_t stride, int64_t channels) {
    return Shape{sizes.N, sizes.size / stride, sizes.size / stride, channels};
  };
  add.image(stage(1, 3));
  add.space_to_depth(stage(1, 3));
  add.max_pool(stage(2, 64));
  for (const Shape& map : {stage(4, 256), sizes.level_map(0), sizes.level_map(4)}) add.elementwise(map);
  for (const Shape& map : {stage(4, 256), stage(32, 2048)}) add.bias_activation(map);
  if constexpr (std::is_same_v<T, float>) {  // both types, and heads' outputs, which are always float
    add.casts(sizes.level_map(0));
    for (int l = 0; l < kLevels; ++l) add.concat(sizes.level_map(l));
  }
  for (const Shape& map : {stage(2, 64), stage(4, 64), stage(4, 256), stage(8, 512), stage(16, 1024), stage(32, 2048)})
    add.batch_norm(map);
  for (const int64_t channels : {128, 512}) add.folded_norm(channels);
  for (int l = 0; l < 2; ++l) add.upsample_add(sizes.level_map(l));
  for (int l = 0; l < kLevels; ++l) add.group_norm(sizes.level_map(l));
  for (int l = 0; l < kLevels; ++l) add.bias_gradient(sizes.level_map(l));
  for (int l = 0; l < kLevels; ++l) add.relu_backward_bias_gradient(sizes.level_map(l));
  for (int l = 0; l < kLevels; ++l) add.deform(sizes.level_map(l));
  add.modulation(sizes.level_map(0));
}

template void add_map_cases<float>(const CaseSizes&, std::vector<KernelCase>&);
template void add_map_cases<bfloat16>(const CaseSizes&, std::vector<KernelCase>&);

}  // namespace gradlibra
