// SPDX-License-Identifier: MIT
// Normalisation by groups of channels on the host: whole rows of channels at a time, groups only when sums are joined.
#include "kernels/norms/channel_norm.h"

#include <cmath>
#include <type_traits>

#include "kernels/norms/norm_checks.h"
#include "kernels/parallel.h"

namespace gradlibra::kernels {
namespace {

constexpr int64_t kTile = 256;  // channels at a time: their coefficients and sums stay in the L1 cache

// The channels [first, first + width) of rows [begin, end) of image n, and where their two sums lie in the workspace.
struct Piece {
  int64_t n, begin, end, first, width, partial;
};

// body(piece) for every chunk and tile of channels, in parallel.
template <class Body>
void for_each_piece(Cpu& cpu, const NormShape& s, Body&& body) {
  const int64_t chunks = s.chunks(), rows = rows_per_chunk(s.C);
  parallel_for(cpu, s.N * chunks, 1, [&](int64_t i) {
    const int64_t begin = i % chunks * rows;
    for (int64_t first = 0; first < s.C; first += kTile)
      body(Piece{i / chunks, begin, std::min(begin + rows, s.R), first, std::min(kTile, s.C - first), i * s.C + first});
  });
}

// Calls assign(c, index into the (N, G) arrays) for the channels c of a piece, counted from its first.
template <class Assign>
void for_each_channel(const NormShape& s, const Piece& piece, Assign&& assign) {
  const int64_t size = s.channels_per_group();
  int64_t group = piece.n * s.G + piece.first / size, inside = piece.first % size;
  for (int64_t c = 0; c < piece.width; ++c) {
    assign(c, group);
    if (++inside == size) inside = 0, ++group;
  }
}

// body(std::true_type) or body(std::false_type): the inner loops are compiled for each case.
template <class Body>
void with_flag(bool flag, Body&& body) {
  if (flag)
    body(std::true_type{});
  else
    body(std::false_type{});
}

}  // namespace

NormShape batch_norm_shape(const char* op, const Shape& x, int64_t fewest_rows) {
  require(x.rank() >= 1 && x.dim(-1) >= 1, op, "x has shape " + x.to_string() + ", expected (..., C)");
  const int64_t C = x.dim(-1), rows = x.size() / C;
  require(rows >= fewest_rows, op, "x has shape " + x.to_string() + ", needs at least one row");
  return {1, rows, C, C};
}

template <MapType T>
void norm_statistics(Cpu& cpu, const char* op, const NormShape& s, const NormStatisticsPass<T>& pass) {
  check_norm_statistics(op, s, pass);
  float* chunk_mean = pass.workspace.data();               // [n][chunk][c]
  float* chunk_m2 = pass.workspace.data() + s.partials();  // sum of squared distances from chunk_mean
  for_each_piece(cpu, s, [&](const Piece& p) {
    const T* rows = pass.x.data() + (p.n * s.R + p.begin) * s.C + p.first;
    float shift[kTile], sum[kTile] = {}, squares[kTile] = {};
    std::transform(rows, rows + p.width, shift, [](T v) { return to_float(v); });
    for (int64_t r = 0; r < p.end - p.begin; ++r) {
      const T* row = rows + r * s.C;
#pragma omp simd
      for (int64_t c = 0; c < p.width; ++c) {
        const float d = to_float(row[c]) - shift[c];
        sum[c] += d;
        squares[c] += d * d;
      }
    }
    const auto count = static_cast<float>(p.end - p.begin);
    for (int64_t c = 0; c < p.width; ++c) {
      const float m2 = squares[c] - sum[c] * sum[c] / count;
      chunk_mean[p.partial + c] = shift[c] + sum[c] / count;
      chunk_m2[p.partial + c] = m2 < 0 ? 0 : m2;
    }
  });

  const int64_t size = s.channels_per_group(), per_chunk = rows_per_chunk(s.C);
  const auto count = static_cast<double>(s.R * size);
  parallel_for(cpu, s.N * s.G, 16, [&](int64_t i) {
    const int64_t n = i / s.G, g = i % s.G;
    // body(rows of the chunk, index of a channel's partial result) over the group, in order
    const auto for_each_partial = [&](auto&& body) {
      for (int64_t k = 0; k < s.chunks(); ++k)
        for (int64_t c = g * size; c < (g + 1) * size; ++c)
          body(static_cast<double>(std::min(per_chunk, s.R - k * per_chunk)), (n * s.chunks() + k) * s.C + c);
    };
    double average = 0, m2 = 0;
    for_each_partial([&](double rows, int64_t j) { average += rows * static_cast<double>(chunk_mean[j]); });
    average /= std::max(count, 1.0);
    for_each_partial([&](double rows, int64_t j) {
      const double d = static_cast<double>(chunk_mean[j]) - average;
      m2 += static_cast<double>(chunk_m2[j]) + rows * d * d;
    });
    const double variance = m2 / std::max(count, 1.0);
    pass.mean[i] = static_cast<float>(average);
    pass.rstd[i] = static_cast<float>(1 / std::sqrt(variance + static_cast<double>(pass.eps)));
    const RunningStatistics& running = pass.running;
    if (running.mean.data() == nullptr) return;
    const auto unbiased = static_cast<float>(count > 1 ? m2 / (count - 1) : variance);
    running.mean[g] = (1 - running.momentum) * running.mean[g] + running.momentum * static_cast<float>(average);
    running.var[g] = (1 - running.momentum) * running.var[g] + running.momentum * unbiased;
  });
}

template <MapType T>
void norm_forward(Cpu& cpu, const char* op, const NormShape& s, const NormForwardPass<T>& pass) {
  check_norm_forward(op, s, pass);
  with_flag(pass.relu(), [&](auto relu) {
    for_each_piece(cpu, s, [&](const Piece& p) {
      float center[kTile], slope[kTile], offset[kTile];
      for_each_channel(s, p, [&](int64_t c, int64_t group) {
        center[c] = pass.mean[group];
        slope[c] = pass.weight[p.first + c] * pass.rstd[group];
        offset[c] = pass.bias[p.first + c];
      });
      for (int64_t r = p.begin; r < p.end; ++r) {
        const int64_t at = (p.n * s.R + r) * s.C + p.first;
        const T* from = pass.x.data() + at;
        T* to = pass.y.data() + at;
#pragma omp simd
        for (int64_t c = 0; c < p.width; ++c) {
          const float v = slope[c] * (to_float(from[c]) - center[c]) + offset[c];
          to[c] = from_float<T>(relu && v < 0 ? 0 : v);
        }
      }
    });
  });
}

namespace {

// Per chunk and channel: sum g and sum g * x_hat.
template <MapType T>
void gradient_sums(Cpu& cpu, const NormShape& s, const NormBackwardPass<T>& b) {
  float* sum_g = b.workspace.data();
  float* sum_g_x_hat = b.workspace.data() + s.partials();
  with_flag(b.relu(), [&](auto relu) {
    for_each_piece(cpu, s, [&](const Piece& p) {
      float center[kTile], scale[kTile], g_sum[kTile] = {}, gx_sum[kTile] = {};
      for_each_channel(s, p, [&](int64_t c, int64_t group) {
        center[c] = b.mean[group];
        scale[c] = b.rstd[group];
      });
      for (int64_t r = p.begin; r < p.end; ++r) {
        const int64_t at = (p.n * s.R + r) * s.C + p.first;
        const T* x = b.x.data() + at;
        const T* grad_y = b.grad_y.data() + at;
        const T* y = relu ? b.y.data() + at : grad_y;
#pragma omp simd
        for (int64_t c = 0; c < p.width; ++c) {
          const float g = !relu || to_float(y[c]) > 0 ? to_float(grad_y[c]) : 0;
          g_sum[c] += g;
          gx_sum[c] += g * (to_float(x[c]) - center[c]);
        }
      }
      for (int64_t c = 0; c < p.width; ++c) {
        sum_g[p.partial + c] = g_sum[c];
        sum_g_x_hat[p.partial + c] = gx_sum[c] * scale[c];
      }
    });
  });
}

// grad[c] (+)= sum over images and chunks of partial[.][c].
void parameter_gradient(Cpu& cpu, const NormShape& s, const float* partial, const GradTarget<>& to) {
  if (!to.wanted()) return;
  parallel_chunks(cpu, s.C, kTile, [&](int64_t, int64_t begin, int64_t end) {
    double total[kTile] = {};
    for (int64_t i = 0; i < s.N * s.chunks(); ++i)
      for (int64_t c = begin; c < end; ++c) total[c - begin] += static_cast<double>(partial[i * s.C + c]);
    for (int64_t c = begin; c < end; ++c)
      to.grad[c] = static_cast<float>(total[c - begin] + (to.adds() ? static_cast<double>(to.grad[c]) : 0.0));
  });
}

// Per image and group: (1/m) sum(weight*g) and (1/m) sum(weight*g*x_hat).
template <MapType T>
void group_averages(Cpu& cpu, const NormShape& s, const NormBackwardPass<T>& b, float* average_g,
                    float* average_g_x_hat) {
  const int64_t size = s.channels_per_group();
  parallel_for(cpu, s.N * s.G, 16, [&](int64_t i) {
    double sum_g = 0, sum_g_x_hat = 0;
    for (int64_t k = 0; k < s.chunks(); ++k)
      for (int64_t c = i % s.G * size; c < (i % s.G + 1) * size; ++c) {
        const int64_t j = (i / s.G * s.chunks() + k) * s.C + c;
        sum_g += static_cast<double>(b.weight[c]) * static_cast<double>(b.workspace[j]);
        sum_g_x_hat += static_cast<double>(b.weight[c]) * static_cast<double>(b.workspace[s.partials() + j]);
      }
    average_g[i] = static_cast<float>(sum_g / static_cast<double>(s.R * size));
    average_g_x_hat[i] = static_cast<float>(sum_g_x_hat / static_cast<double>(s.R * size));
  });
}

// grad_x (+)= slope * g - level - tilt * (x - mean), the coefficients constant per image and channel.
template <MapType T>
void input_gradient(Cpu& cpu, const NormShape& s, const NormBackwardPass<T>& b, const float* average_g,
                    const float* average_g_x_hat) {
  const auto run = [&](auto relu, auto add) {
    for_each_piece(cpu, s, [&](const Piece& p) {
      float slope[kTile], level[kTile], tilt[kTile], center[kTile];
      for_each_channel(s, p, [&](int64_t c, int64_t group) {
        slope[c] = b.weight[p.first + c] * b.rstd[group];
        level[c] = b.rstd[group] * average_g[group];
        tilt[c] = b.rstd[group] * b.rstd[group] * average_g_x_hat[group];
        center[c] = b.mean[group];
      });
      for (int64_t r = p.begin; r < p.end; ++r) {
        const int64_t at = (p.n * s.R + r) * s.C + p.first;
        const T* grad_y = b.grad_y.data() + at;
        const T* x = b.x.data() + at;
        const T* y = relu ? b.y.data() + at : grad_y;
        T* grad_x = b.grad_x.grad.data() + at;
#pragma omp simd
        for (int64_t c = 0; c < p.width; ++c) {
          const float g = !relu || to_float(y[c]) > 0 ? to_float(grad_y[c]) : 0;
          float d = slope[c] * g;
          d -= level[c] + tilt[c] * (to_float(x[c]) - center[c]);
          grad_x[c] = from_float<T>(add ? to_float(grad_x[c]) + d : d);
        }
      }
    });
  };
  with_flag(b.relu(), [&](auto relu) { with_flag(b.grad_x.adds(), [&](auto add) { run(relu, add); }); });
}

}  // namespace

template <MapType T>
void norm_backward(Cpu& cpu, const char* op, const NormShape& s, const NormBackwardPass<T>& b) {
  check_norm_backward(op, s, b);
  const bool empty = s.N * s.R == 0;
  if (b.needs_sums() && !empty) gradient_sums(cpu, s, b);
  parameter_gradient(cpu, s, b.workspace.data(), b.grad_bias);
  parameter_gradient(cpu, s, b.workspace.data() + s.partials(), b.grad_weight);
  if (!b.grad_x.wanted() || empty) return;
  float* average_g = b.workspace.data() + 2 * s.partials();
  float* average_g_x_hat = average_g + s.N * s.G;
  group_averages(cpu, s, b, average_g, average_g_x_hat);
  input_gradient(cpu, s, b, average_g, average_g_x_hat);
}

template <MapType T>
void norm_input_gradient(Cpu& cpu, const char* op, const NormShape& s, const NormBackwardPass<T>& b,
                         View<const float> average_g, View<const float> average_g_x_hat) {
  check_norm_input_gradient(op, s, b, average_g, average_g_x_hat);
  input_gradient(cpu, s, b, average_g.data(), average_g_x_hat.data());
}

template void norm_statistics(Cpu&, const char*, const NormShape&, const NormStatisticsPass<float>&);
template void norm_forward(Cpu&, const char*, const NormShape&, const NormForwardPass<float>&);
template void norm_backward(Cpu&, const char*, const NormShape&, const NormBackwardPass<float>&);
template void norm_input_gradient(Cpu&, const char*, const NormShape&, const NormBackwardPass<float>&,
                                  View<const float>, View<const float>);

template void norm_statistics(Cpu&, const char*, const NormShape&, const NormStatisticsPass<bfloat16>&);
template void norm_forward(Cpu&, const char*, const NormShape&, const NormForwardPass<bfloat16>&);
template void norm_backward(Cpu&, const char*, const NormShape&, const NormBackwardPass<bfloat16>&);
template void norm_input_gradient(Cpu&, const char*, const NormShape&, const NormBackwardPass<bfloat16>&,
                                  View<const float>, View<const float>);

}  // namespace gradlibra::kernels
