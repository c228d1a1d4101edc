// SPDX-License-Identifier: MIT
// Background, bystanders and optics of synthetic smears.
#include "data/synthetic/synthetic_smear.h"

namespace gradlibra {

Staining random_staining(Random& random) {
  // Densities of the Papanicolaou dyes as they look in transmitted light: haematoxylin, light green, eosin, orange G.
  const auto vary = [&](Density d, float spread, float level_spread) {
    const float strength = random.uniform(1 - level_spread, 1 + level_spread);
    return Density{d.r * strength * random.uniform(1 - spread, 1 + spread),
                   d.g * strength * random.uniform(1 - spread, 1 + spread),
                   d.b * strength * random.uniform(1 - spread, 1 + spread)};
  };
  Staining s;
  s.chromatin = vary({0.76F, 0.80F, 0.42F}, 0.1F, 0.15F);
  s.cyan = vary({0.40F, 0.155F, 0.17F}, 0.14F, 0.2F);
  s.pink = vary({0.10F, 0.36F, 0.23F}, 0.14F, 0.2F);
  s.orange = vary({0.09F, 0.34F, 0.72F}, 0.14F, 0.2F);
  s.mucus = vary({0.16F, 0.17F, 0.10F}, 0.3F, 0);
  const float level = random.uniform(0.89F, 0.96F);
  for (float& white : s.white) white = level * random.uniform(0.98F, 1.02F);
  const Vec direction = random_direction(random);
  const float fall = random.uniform(0, 0.09F);
  s.tilt = {direction.x * fall, direction.y * fall};
  s.vignette = random.uniform(0, 0.08F);
  s.defocus = random.uniform(0.35F, 0.65F);
  if (random.chance(0.15F)) s.defocus = random.uniform(1.0F, 2.2F);
  return s;
}

Smear::Smear(int size, float scale, const Staining& staining, Random& random)
    : size_(size),
      scale_(scale),
      pixel_(1 / scale),
      staining_(staining),
      noise_(random),
      density_(static_cast<size_t>(size) * size) {}

void Smear::draw_background(Random& random, float amount_of_film) {
  const float film = random.uniform(0.2F, 0.7F) * amount_of_film;
  const float grain = random.uniform(0.03F, 0.09F);
  const Vec flow = random_direction(random);  // mucus is drawn out along the smear
  const Vec shift = {random.uniform(0, 100), random.uniform(0, 100)};
  const float half = 0.5F * field();
  for_pixels({half, half}, half, false, [&](Vec p, int, int, Density& density) {
    Vec q = into_frame(p, flow);
    q = {q.x * 0.4F + shift.x, q.y + shift.y};
    const float cloud = 0.6F * noise(q, 90) + 0.4F * noise({q.y, q.x}, 37);
    const float fibre = 0.6F * noise({q.x * 0.5F, q.y}, 11) + 0.4F * noise({q.y + 31, q.x}, 4);
    const float fine = noise({p.x + 57, p.y + 13}, 2.3F);
    const float amount = film * std::max(0.0F, 0.35F + 0.75F * cloud) * (1 + 0.55F * fibre) + grain * (1 + fine);
    density = density + staining_.mucus * amount;
  });
}

void Smear::draw_thread(Vec from, Vec direction, float length_, float width, Density density, Random& random) {
  // Short overlapping segments of a slowly turning line; each pixel takes the cover of its nearest segment.
  constexpr int kMaxPoints = 96;
  std::vector<Vec> points = {from};
  const float step = std::max(length_ / kMaxPoints, std::min(3.0F, length_ / 6));
  float turn = random.uniform(-0.03F, 0.03F);
  for (float gone = 0; gone < length_; gone += step) {
    turn = std::clamp(0.93F * turn + random.uniform(-0.025F, 0.025F), -0.12F, 0.12F);
    direction = {direction.x - direction.y * turn, direction.y + direction.x * turn};
    const float norm = length(direction);
    direction = {direction.x / norm, direction.y / norm};
    points.push_back({points.back().x + direction.x * step, points.back().y + direction.y * step});
  }
  const float visible = std::min(1.0F, width * scale_);  // thinner than a pixel: fainter
  width = std::max(width, pixel_);
  for (size_t i = 0; i + 1 < points.size(); ++i) {
    const Vec a = points[i];
    const Vec axis = {(points[i + 1].x - a.x) / step, (points[i + 1].y - a.y) / step};
    const float taper = 1 - 0.6F * static_cast<float>(i) / static_cast<float>(points.size());
    for_pixels(a, step + width + pixel_, false, [&](Vec p, int, int, Density& d) {
      const Vec q = into_frame(p, axis);
      if (q.x < 0 || q.x >= step) return;  // each pixel belongs to one segment, but for bends
      const float inside = cover(0.5F * width * taper - std::abs(q.y), 0.7F * width);
      if (inside > 0) d = d + density * (inside * visible);
    });
  }
}

void Smear::draw_strand(Random& random) {
  const Vec start = {random.uniform(-0.1F, 1) * field(), random.uniform(0, 1) * field()};
  const float width = random.uniform(1.5F, 7);
  const float pink = random.uniform(0, 0.25F), strength = random.uniform(0.5F, 1.2F), span = random.uniform(60, 380);
  const Density density = (staining_.mucus + staining_.pink * pink) * strength;
  draw_thread(start, random_direction(random), span, width, density, random);
}

void Smear::draw_fragment(Vec centre, Random& random) {
  const float diameter = random.uniform(30, 85);
  const OutlineStyle style = {
      .aspect = random.uniform(0.5F, 1), .corners = random.between(3, 6), .irregularity = random.uniform(0.05F, 0.15F)};
  const Outline outline(diameter, style, random);
  const float dye = random.uniform();
  const Density stain = (dye < 0.5F    ? staining_.cyan
                         : dye < 0.85F ? staining_.pink
                                       : staining_.orange) *
                        random.uniform(0.3F, 0.7F);
  const Vec axis = random_direction(random);
  const float softness = random.uniform(1.2F, 4);
  for_pixels(centre, outline.reach() + softness, false, [&](Vec p, int, int, Density& density) {
    const float inside = cover(outline.depth(into_frame(p, axis)), softness);
    if (inside > 0) density = density + stain * (inside * (1 + 0.4F * noise(p, 9) + 0.25F * noise({p.y, p.x}, 3)));
  });
}

void Smear::draw_squame(Vec centre, Random& random) {
  const float diameter = random.uniform(62, 118);
  const OutlineStyle style = {
      .aspect = random.uniform(0.6F, 1), .corners = random.between(4, 7), .irregularity = random.uniform(0.03F, 0.1F)};
  const Outline outline(diameter, style, random);
  const float dye = random.uniform(), strength = random.uniform(0.25F, 0.85F);
  const Density stain = (dye < 0.45F ? staining_.cyan : dye < 0.85F ? staining_.pink : staining_.orange) * strength;
  const Vec axis = random_direction(random), fold = random_direction(random);
  const float fold_at = random.chance(0.5F) ? random.uniform(0.1F, 0.4F) * diameter : diameter;
  const float softness = random.uniform(1.5F, 5), mottling = random.uniform(0.2F, 0.5F);
  const Vec texture = {random.uniform(0, 1000), random.uniform(0, 1000)};
  for_pixels(centre, outline.reach() + softness, false, [&](Vec p, int, int, Density& density) {
    // What lies beyond the fold is turned over, where it doubles the density.
    const float beyond = dot(p, fold) - fold_at;
    const Vec mirrored = {p.x - 2 * beyond * fold.x, p.y - 2 * beyond * fold.y};
    const float inside = cover(std::min(outline.depth(into_frame(p, axis)), -beyond), softness);
    if (inside <= 0) return;
    const float flap = cover(std::min(outline.depth(into_frame(mirrored, axis)), -beyond), 1.5F);
    const Vec q = {p.x + texture.x, p.y + texture.y};
    const float grain = 1 + mottling * (0.6F * noise(q, 17) + 0.4F * noise({q.y, q.x}, 6));
    density = density + stain * (inside * (1 + 0.9F * flap) * std::max(0.0F, grain));
  });
}

void Smear::draw_pale_body(Vec centre, Random& random) {
  const float diameter = random.uniform(22, 42);
  const OutlineStyle style = {.aspect = random.uniform(0.5F, 0.9F),
                              .irregularity = random.uniform(0.02F, 0.1F),
                              .pear = random.uniform(0, 0.3F)};
  const Outline outline(diameter, style, random);
  const float dye = random.uniform(), strength = random.uniform(0.45F, 1);
  const Density stain = (staining_.cyan + staining_.mucus * 0.9F + staining_.pink * (0.4F * dye)) * strength;
  const Vec axis = random_direction(random);
  const float softness = random.uniform(1.2F, 4);
  // A third hold a grey remainder of chromatin.
  const float core = random.chance(0.33F) ? diameter * random.uniform(0.1F, 0.16F) : 0;
  const float darkness = random.uniform(0.2F, 0.6F);
  const Vec place = {0.18F * diameter * random.bell() / 2, 0.18F * diameter * random.bell() / 2};
  for_pixels(centre, outline.reach() + softness, false, [&](Vec p, int, int, Density& density) {
    const float inside = cover(outline.depth(into_frame(p, axis)), softness);
    if (inside <= 0) return;
    density = density + stain * (inside * (1 + 0.4F * noise(p, 9) + 0.25F * noise({p.y, p.x}, 3)));
    const float dark = core > 0 ? cover(core - length({p.x - place.x, p.y - place.y}), 2.5F) : 0;
    if (dark > 0) density = density + staining_.chromatin * (darkness * dark);
  });
}

void Smear::draw_smudge(Vec centre, Random& random) {
  const float diameter = random.uniform(16, 36);
  const OutlineStyle style = {.aspect = random.uniform(0.45F, 0.95F),
                              .irregularity = random.uniform(0.05F, 0.16F),
                              .pear = random.uniform(0, 0.35F)};
  const Outline outline(diameter, style, random);
  const float darkness = random.uniform(0.35F, 1.2F), softness = random.uniform(1.5F, 7);
  const Vec axis = random_direction(random);
  const Vec texture = {random.uniform(0, 1000), random.uniform(0, 1000)};
  for_pixels(centre, outline.reach() + softness, false, [&](Vec p, int, int, Density& density) {
    const Vec q = into_frame(p, axis);
    const float inside = cover(outline.depth(q), softness);
    if (inside <= 0) return;
    // Drawn out along the smear: fibres along the first axis.
    const float fibre = noise({0.25F * q.x + texture.x, q.y + texture.y}, 4);
    density = density + staining_.chromatin * (darkness * inside * std::max(0.0F, 1 + 0.4F * fibre));
  });
}

void Smear::draw_blood_cell(Vec centre, Random& random) {
  const float diameter = random.uniform(14, 19);
  const OutlineStyle style = {.aspect = random.uniform(0.75F, 1), .irregularity = random.uniform(0, 0.08F)};
  const Outline outline(diameter, style, random);
  const float orange = random.uniform(0.2F, 0.7F), strength = random.uniform(0.45F, 0.9F);
  const Density stain = (staining_.pink + staining_.orange * orange) * strength;
  const Vec axis = random_direction(random);
  const float pallor = random.uniform(0.1F, 0.6F);
  for_pixels(centre, outline.reach() + 2, false, [&](Vec p, int, int, Density& density) {
    const float depth = outline.depth(into_frame(p, axis));
    const float inside = cover(depth, 1.2F);
    if (inside > 0) density = density + stain * (inside * (1 - pallor * smooth_step(2, 7, depth)));
  });
}

void Smear::draw_neutrophil(Vec centre, Random& random) {
  // Two to four dark lobes strung together in a faint body.
  const int lobes = random.between(2, 4);
  const Vec arc = random_direction(random);
  const float spread = random.uniform(3.2F, 5.2F), bow = random.uniform(1, 4);
  Vec places[4];
  float radii[4];
  for (int k = 0; k < lobes; ++k) {
    const float s = lobes > 1 ? 2 * static_cast<float>(k) / static_cast<float>(lobes - 1) - 1 : 0;
    const Vec q = {spread * s + random.uniform(-0.8F, 0.8F), bow * (s * s - 0.5F) + random.uniform(-0.8F, 0.8F)};
    places[k] = out_of_frame(q, arc);
    radii[k] = random.uniform(2.6F, 4);
  }
  const float darkness = random.uniform(1.0F, 1.9F), body = random.uniform(8, 11);
  const float pink = random.uniform(), strength = random.uniform(0.1F, 0.35F);
  const Density plasma = (staining_.cyan + staining_.pink * pink) * strength;
  const float softness = random.uniform(1.2F, 2.6F);
  for_pixels(centre, body + 2, false, [&](Vec p, int, int, Density& density) {
    float depth = -100, second = -100;
    for (int k = 0; k < lobes; ++k) {
      const float d = radii[k] - length({p.x - places[k].x, p.y - places[k].y});
      second = std::max(second, std::min(depth, d));
      depth = std::max(depth, d);
    }
    depth += 0.7F * smooth_step(-3, 0, second);  // bridges between lobes
    const float inside = cover(depth, softness);
    const float around = cover(body - length(p), 2.5F);
    if (inside > 0) density = density + staining_.chromatin * (darkness * inside * (1 + 0.2F * noise(p, 2.5F)));
    if (around > 0) density = density + plasma * around;
  });
}

void Smear::draw_speck(Vec centre, Random& random) {
  const float size = random.uniform(2, 7.5F);
  const Outline outline(size, {.aspect = random.uniform(0.4F, 1), .irregularity = 0.25F}, random);
  const float dark = random.uniform(0.1F, 0.8F), orange = random.uniform(0, 0.5F),
              strength = random.uniform(0.4F, 1.1F);
  const Density stain = (staining_.chromatin * dark + staining_.orange * orange) * strength;
  const Vec axis = random_direction(random);
  const float softness = random.uniform(0.8F, 2.5F);
  for_pixels(centre, outline.reach() + softness, false, [&](Vec p, int, int, Density& density) {
    const float inside = cover(outline.depth(into_frame(p, axis)), softness);
    if (inside > 0) density = density + stain * inside;
  });
}

void Smear::draw_bacteria(Vec centre, Random& random) {
  const int rods = random.between(20, 70);
  const float spread = random.uniform(12, 40);
  for (int k = 0; k < rods; ++k) {
    const Vec p = {centre.x + spread * random.bell(), centre.y + spread * random.bell()};
    const float span = random.uniform(2.5F, 6), strength = random.uniform(0.25F, 0.6F);
    draw_thread(p, random_direction(random), span, 1.1F, staining_.chromatin * strength, random);
  }
}

std::vector<float> Smear::light() const {
  // Three planes, so that the blur runs along rows.
  const auto n = static_cast<size_t>(size_);
  std::vector<float> light(n * n * 3);
  for (size_t y = 0; y < n; ++y) {
    for (size_t x = 0; x < n; ++x) {
      const float u = 2 * (static_cast<float>(x) + 0.5F) / static_cast<float>(size_) - 1;
      const float v = 2 * (static_cast<float>(y) + 0.5F) / static_cast<float>(size_) - 1;
      const float lamp = 1 + staining_.tilt.x * u + staining_.tilt.y * v - staining_.vignette * (u * u + v * v) * 0.5F;
      const Density d = density_[y * n + x];
      const float value[3] = {exp_minus(std::max(0.0F, d.r)), exp_minus(std::max(0.0F, d.g)),
                              exp_minus(std::max(0.0F, d.b))};
      // A little stray light keeps the darkest nuclei from black.
      for (size_t c = 0; c < 3; ++c)
        light[(c * n + y) * n + x] = 255 * staining_.white[c] * lamp * (0.03F + 0.97F * value[c]);
    }
  }
  return light;
}

void Smear::blur(std::vector<float>& planes, float sigma) const {
  const auto n = static_cast<size_t>(size_);
  const int radius = std::max(1, static_cast<int>(2.5F * sigma + 0.5F));
  std::vector<float> weight(static_cast<size_t>(radius) + 1), blurred(n * n);
  float total = 0;
  for (int k = 0; k <= radius; ++k) {
    weight[k] = exp_minus(0.5F * static_cast<float>(k * k) / (sigma * sigma));
    total += k == 0 ? weight[k] : 2 * weight[k];
  }
  for (float& w : weight) w /= total;
  const auto clamped = [&](int i) { return static_cast<size_t>(std::clamp(i, 0, size_ - 1)); };
  for (size_t c = 0; c < 3; ++c) {
    float* plane = planes.data() + c * n * n;
    for (size_t y = 0; y < n; ++y) {
      float* out = blurred.data() + y * n;
      const float* row = plane + y * n;
      for (size_t x = 0; x < n; ++x) out[x] = weight[0] * row[x];
      for (int k = 1; k <= radius; ++k) {
        const float* above = plane + clamped(static_cast<int>(y) - k) * n;
        const float* below = plane + clamped(static_cast<int>(y) + k) * n;
        for (size_t x = 0; x < n; ++x) out[x] += weight[k] * (above[x] + below[x]);
      }
    }
    for (int y = 0; y < size_; ++y) {
      const float* in = blurred.data() + static_cast<size_t>(y) * n;
      float* out = plane + static_cast<size_t>(y) * n;
      for (int x = 0; x < size_; ++x) {
        float sum = weight[0] * in[x];
        for (int k = 1; k <= radius; ++k) sum += weight[k] * (in[clamped(x - k)] + in[clamped(x + k)]);
        out[x] = sum;
      }
    }
  }
}

Image Smear::develop(Random& random) const {
  const auto n = static_cast<size_t>(size_);
  const float zoom = std::max(scale_, 0.75F);
  std::vector<float> picture = light();
  std::vector<float> far;
  if (staining_.far_defocus > 0) {
    far = picture;
    blur(far, staining_.far_defocus * zoom);
  }
  blur(picture, staining_.defocus * zoom);
  if (!far.empty()) {
    for (size_t y = 0; y < n; ++y) {
      for (size_t x = 0; x < n; ++x) {
        const Vec p = {static_cast<float>(x) * pixel_, static_cast<float>(y) * pixel_};
        const float away = smooth_step(-0.25F, 0.25F, noise({p.x + 71, p.y + 29}, 150) + staining_.far_level);
        for (size_t c = 0; c < 3; ++c) {
          float& sharp = picture[(c * n + y) * n + x];
          sharp += (far[(c * n + y) * n + x] - sharp) * away;
        }
      }
    }
  }

  Image image{.width = size_, .height = size_, .pixels = std::vector<uint8_t>(n * n * 3)};
  for (size_t i = 0; i < n * n; ++i) {
    const uint64_t bits = random.next();
    for (size_t c = 0; c < 3; ++c) {
      // Four random bytes make a bell of about one grey level.
      const uint64_t b = bits >> (c * 16);
      const float noise = (static_cast<float>((b & 0xFF) + ((b >> 8) & 0xFF)) - 255) * (1.0F / 110);
      image.pixels[i * 3 + c] = static_cast<uint8_t>(std::clamp(picture[c * n * n + i] + noise + 0.5F, 0.0F, 255.0F));
    }
  }
  return image;
}

}  // namespace gradlibra
