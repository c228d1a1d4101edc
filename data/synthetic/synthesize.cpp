// SPDX-License-Identifier: MIT
// Composes synthetic patches (which cells, where) and writes a set of them in VOC layout.
#include "data/synthetic/synthesize.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "data/synthetic/synthetic_cell.h"
#include "data/synthetic/synthetic_recipe.h"
#include "runtime/base/files.h"
#include "runtime/base/in_parallel.h"
#include "runtime/base/processors.h"

namespace gradlibra {

void SynthesizeConfig::describe(ConfigVisitor& v) {
  v.field("train", train, "patches for training", between(0, 1e6));
  v.field("val", val, "patches for validation", between(0, 1e6));
  v.field("test", test, "patches for testing", between(0, 1e6));
  v.field("size", size, "side of a patch in pixels", between(32, 8192));
  v.field("scale", scale,
          "pixels per unit of cell size: 0.5 draws cells half as large; size 256 with scale 0.5 shows the field of 512 "
          "with 1",
          between(0.1, 4));
  v.field("cells_per_patch", cells_per_patch,
          "mean number of annotated cells on the area of a 512 x 512 patch at scale 1", between(0, 100));
  v.field("seed", seed, "same seed, same bytes", any_number());
  v.field("classes", classes, "draw cells of these classes only and leave the others out; empty: all ten");
  v.field(
      "recipe", recipe,
      "smears-v1: clean and clear; smears-v2: soiled slides of different stains, crowded cells, classes that overlap "
      "as cytologists disagree");
  v.field("clutter", clutter, "smears-v2: multiplies the amount of everything that is not a cell to be found",
          between(0, 10));
  v.field("disagreement", disagreement,
          "smears-v2: multiplies the fraction of cells that look like another class than they are called",
          between(0, 1.2));
}

namespace {

// Raised whenever the drawing changes: a set made by another version is not continued.
constexpr int kGenerator = 1;

// Random streams of one patch.
enum Stream : uint64_t { kCount, kStaining, kNoise, kPlacing, kDrawing, kBystanders, kSensor, kLook, kSlide };

constexpr int64_t kMaxMarkerBytes = 1 << 20;

constexpr const char* kSplitNames[] = {"train", "val", "test"};

void check(const SynthesizeConfig& c) {
  const auto require = [](bool ok, const std::string& message) {
    if (!ok) throw std::invalid_argument("synthesize: " + message);
  };
  for (const auto& [name, count] : {std::pair{"train", c.train}, std::pair{"val", c.val}, std::pair{"test", c.test}}) {
    require(count >= 0 && count <= 1000000, fmt::format("{} is {}, expected 0 to 1000000 patches", name, count));
  }
  require(c.size >= 32 && c.size <= 8192, fmt::format("size is {}, expected 32 to 8192 pixels", c.size));
  require(c.scale >= 0.1 && c.scale <= 4, fmt::format("scale is {}, expected 0.1 to 4", c.scale));
  require(c.cells_per_patch >= 0 && c.cells_per_patch <= 100,
          fmt::format("cells_per_patch is {}, expected 0 to 100", c.cells_per_patch));
  require(c.clutter >= 0 && c.clutter <= 10, fmt::format("clutter is {}, expected 0 to 10", c.clutter));
  require(c.disagreement >= 0 && c.disagreement <= 1.2,
          fmt::format("disagreement is {}, expected 0 to 1.2", c.disagreement));
  for (const std::string& name : c.classes) {
    const auto& known = cervical_classes();
    require(std::find(known.begin(), known.end(), name) != known.end(),
            fmt::format("classes has {}, expected {}", name, fmt::join(known, ", ")));
  }
  const Recipe& recipe = find_recipe(c.recipe);
  require(recipe.patches_per_slide > 0 || (c.clutter == 1 && c.disagreement == 1),
          fmt::format("clutter and disagreement belong to smears-v2, the recipe is {}", c.recipe));
}

uint64_t split_index(Split split) { return static_cast<uint64_t>(split); }

// Annotated cells of a patch: half to one and a half times the mean.
int cell_count(const SynthesizeConfig& config, Split split, int index) {
  Random random(static_cast<uint64_t>(config.seed), {split_index(split), static_cast<uint64_t>(index), kCount});
  const double field = config.size / (config.scale * 512);
  const double mean = config.cells_per_patch * field * field;
  const double spread = random.uniform(), rounding = random.uniform();
  return static_cast<int>(std::floor(mean * (0.5 + spread) + rounding));
}

// The cards of a patch follow those of all patches before it in its split.
std::vector<Card> deal(const SynthesizeConfig& config, Split split, int index) {
  int64_t first = 0;
  for (int i = 0; i < index; ++i) first += cell_count(config, split, i);
  const int count = cell_count(config, split, index);
  std::vector<Card> cards, deck;
  for (int64_t card = first; card < first + count; ++card) {
    if (deck.empty() || card % kDeckSize == 0)
      deck = make_deck(static_cast<uint64_t>(config.seed), split_index(split), card / kDeckSize);
    cards.push_back(deck[card % kDeckSize]);
  }
  if (!config.classes.empty()) {
    std::erase_if(cards, [&](const Card& card) {
      return std::find(config.classes.begin(), config.classes.end(), cervical_classes()[card.cell]) ==
             config.classes.end();
    });
  }
  return cards;
}

struct PlacedCell {
  CellClass called;
  SyntheticCell cell;  // drawn as what it looks like
  Vec centre;
};

// How badly a cell at `centre` would crowd those placed: overlap as a part of the smaller radius; hidden nuclei weigh
// most.
float crowding(const std::vector<PlacedCell>& placed, const SyntheticCell& cell, Vec centre) {
  float cost = 0;
  for (const PlacedCell& other : placed) {
    const float distance = length({centre.x - other.centre.x, centre.y - other.centre.y});
    const float near = 0.85F * (cell.radius() + other.cell.radius()) - distance;
    if (near > 0) cost += near / std::min(cell.radius(), other.cell.radius());
    const float nuclei = 0.6F * (cell.traits().nucleus + other.cell.traits().nucleus) + 4 - distance;
    if (nuclei > 0) cost += 4 + nuclei;
  }
  return cost;
}

// Best of a few random places; a clustered cell goes beside the one before it. Centres stay inside the patch by the
// nucleus at least.
std::vector<PlacedCell> place_cells(const std::vector<Card>& cards, const Recipe& recipe, float disagreement,
                                    float field, Random& looking, Random& random) {
  std::vector<PlacedCell> placed;
  for (const Card& card : cards) {
    const CellClass look = sample_look(recipe, card.cell, disagreement, looking);
    const SyntheticCell cell(look, sample_traits(look, recipe.borderline, recipe.blend, random), random);
    const float margin = std::min(0.45F * field, std::max(0.15F * cell.reach(), 0.6F * cell.traits().nucleus + 4));
    const int tries = recipe.crowded ? random.between(1, 4) : random.between(3, 12);
    Vec best;
    float best_cost = 0;
    for (int k = 0; k < tries; ++k) {
      Vec centre = {random.uniform(margin, field - margin), random.uniform(margin, field - margin)};
      if (card.beside_previous && !placed.empty()) {
        const PlacedCell& last = placed.back();
        const Vec d = random_direction(random);
        const float gap = random.uniform(0.85F, 1.08F) * (cell.radius() + last.cell.radius());
        centre = {std::clamp(last.centre.x + d.x * gap, margin, field - margin),
                  std::clamp(last.centre.y + d.y * gap, margin, field - margin)};
      }
      const float cost = crowding(placed, cell, centre);
      if (k == 0 || cost < best_cost) best = centre, best_cost = cost;
    }
    placed.push_back({card.cell, cell, best});
  }
  return placed;
}

void draw_bystanders(Smear& smear, Random& random) {
  const float field = smear.field(), area = field * field / (512.0F * 512.0F);
  const auto anywhere = [&] { return Vec{random.uniform(0, field), random.uniform(0, field)}; };
  for (int n = random_count(3 * area, random); n > 0; --n) smear.draw_strand(random);
  for (int n = random_count(1.5F * area, random); n > 0; --n) smear.draw_fragment(anywhere(), random);
  for (int n = random_count(22 * area, random); n > 0; --n) smear.draw_speck(anywhere(), random);
  const float neutrophils = random.chance(0.35F) ? 45 : 10;
  for (int n = random_count(neutrophils * area, random); n > 0; --n) smear.draw_neutrophil(anywhere(), random);
  if (random.chance(0.35F)) {
    for (int n = random_count(14 * area, random); n > 0; --n) smear.draw_blood_cell(anywhere(), random);
  }
  if (random.chance(0.25F)) {
    for (int n = random_count(3 * area, random); n > 0; --n) smear.draw_bacteria(anywhere(), random);
  }
}

// Neutrophils on and around an inflamed cell, but not on its nucleus; necrotic specks around a malignant one.
void draw_company(Smear& smear, const PlacedCell& placed, Random& random) {
  const CellTraits& t = placed.cell.traits();
  const auto around = [&](float from, float to) {
    const Vec d = random_direction(random);
    const float r = random.uniform(from, to);
    return Vec{placed.centre.x + d.x * r, placed.centre.y + d.y * r};
  };
  const float radius = placed.cell.radius();
  for (int n = static_cast<int>(t.neutrophils + random.uniform()); n > 0; --n) {
    smear.draw_neutrophil(around(0.5F * t.nucleus + 12, 1.35F * radius + 14), random);
  }
  for (int n = static_cast<int>(t.debris + random.uniform()); n > 0; --n) {
    smear.draw_speck(around(0.6F * radius, 1.6F * radius + 12), random);
  }
}

// --- files -----------------------------------------------------------------------------------------------------------

namespace fs = std::filesystem;

std::string marker_text(const SynthesizeConfig& c) {
  return fmt::format(
      "# What `synthesize` drew here. Do not edit: a set of another configuration is not overwritten.\n"
      "generator: {}\ntrain: {}\nval: {}\ntest: {}\nsize: {}\nscale: {}\ncells_per_patch: {}\nseed: {}\n{}",
      kGenerator, c.train, c.val, c.test, c.size, c.scale, c.cells_per_patch, c.seed,
      // What stands at its default is left out, so that sets from before there were recipes are recognised.
      (c.classes.empty() ? "" : fmt::format("classes: [{}]\n", fmt::join(c.classes, ", "))) +
          (c.recipe == "smears-v1"
               ? ""
               : fmt::format("recipe: {}\nclutter: {}\ndisagreement: {}\n", c.recipe, c.clutter, c.disagreement)));
}

std::string classes_text() {
  std::string text = "classes:\n";
  for (const std::string& name : cervical_classes()) text += "  - " + name + "\n";
  text += "groups:\n";
  for (const char* group : {"frequent", "common", "rare"}) {
    std::string names;
    for (const std::string& name : cervical_groups().at(group)) names += (names.empty() ? "" : ", ") + name;
    text += std::string("  ") + group + ": [" + names + "]\n";
  }
  return text;
}

std::string patch_name(Split split, int index) {
  return fmt::format("{}_{:05}", kSplitNames[split_index(split)], index);
}

// VOC counts pixels from 1 and its xmax, ymax are the last pixels inside: a box [x1, x2) has xmin = x1 + 1 and xmax =
// x2.
std::string annotation_text(const std::string& name, const SynthesizedPatch& patch) {
  std::string text = fmt::format(
      "<annotation>\n  <folder>JPEGImages</folder>\n  <filename>{}.png</filename>\n  <source><database>gradlibra "
      "synthetic smears</database></source>\n"
      "  <size><width>{}</width><height>{}</height><depth>3</depth></size>\n  <segmented>0</segmented>\n",
      name, patch.image.width, patch.image.height);
  for (const Object& object : patch.objects) {
    const int x1 = static_cast<int>(object.box.x1), y1 = static_cast<int>(object.box.y1);
    const int x2 = static_cast<int>(object.box.x2), y2 = static_cast<int>(object.box.y2);
    const bool truncated = x1 == 0 || y1 == 0 || x2 == patch.image.width || y2 == patch.image.height;
    text += fmt::format(
        "  <object>\n    <name>{}</name>\n    <pose>Unspecified</pose>\n    <truncated>{}</truncated>\n    "
        "<difficult>{}</difficult>\n"
        "    <bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>\n  </object>\n",
        cervical_classes()[object.label], truncated ? 1 : 0, object.difficult ? 1 : 0, x1 + 1, y1 + 1, x2, y2);
  }
  return text + "</annotation>\n";
}

// Refuses a folder that holds something else; claims an empty one with the marker, before anything else is in it.
void claim(const SynthesizeConfig& config, const fs::path& root) {
  const fs::path marker = root / "synthesis.yaml";
  if (fs::exists(marker)) {
    const std::string found = read_file(marker, kMaxMarkerBytes);
    if (found != marker_text(config)) {
      throw std::runtime_error(
          marker.string() +
          ": the folder holds a set of another configuration; choose another folder or remove this one. It has:\n" +
          found);
    }
  } else {
    for (const char* name : {"JPEGImages", "Annotations", "ImageSets", "classes.yaml"}) {
      if (fs::exists(root / name)) {
        throw std::runtime_error(
            (root / name).string() +
            ": exists but was not made by synthesize (no synthesis.yaml beside it); choose another folder");
      }
    }
    fs::create_directories(root);
    write_file(marker, marker_text(config));
  }
  for (const char* name : {"JPEGImages", "Annotations", "ImageSets/Main"}) fs::create_directories(root / name);
}

}  // namespace

SynthesizedPatch synthesize_patch(const SynthesizeConfig& config, Split split, int index) {
  check(config);
  if (index < 0) throw std::invalid_argument(fmt::format("synthesize: patch {} does not exist", index));
  const auto stream = [&](Stream name) {
    return Random(static_cast<uint64_t>(config.seed), {split_index(split), static_cast<uint64_t>(index), name});
  };
  Random staining = stream(kStaining), noise = stream(kNoise), placing = stream(kPlacing), drawing = stream(kDrawing),
         bystanders = stream(kBystanders), sensor = stream(kSensor), looking = stream(kLook);
  const Recipe& recipe = find_recipe(config.recipe);
  const bool soiled = recipe.patches_per_slide > 0;
  const auto clutter = static_cast<float>(config.clutter);
  SlideStyle slide;
  if (soiled) {
    const auto number = static_cast<uint64_t>(index / recipe.patches_per_slide);
    Random choosing(static_cast<uint64_t>(config.seed), {split_index(split), number, kSlide});
    slide = random_slide(choosing);
  }

  Smear smear(config.size, static_cast<float>(config.scale),
              soiled ? patch_staining(slide, staining) : random_staining(staining), noise);
  if (soiled) {
    smear.draw_background(bystanders, 0.6F + 0.4F * slide.mucus);
    draw_clutter_below(smear, slide, clutter, bystanders);
  } else {
    smear.draw_background(bystanders);
    draw_bystanders(smear, bystanders);
  }

  SynthesizedPatch patch;
  const std::vector<PlacedCell> cells = place_cells(
      deal(config, split, index), recipe, static_cast<float>(config.disagreement), smear.field(), looking, placing);
  for (const PlacedCell& placed : cells) {
    const std::optional<DrawnCell> drawn = placed.cell.draw(smear, placed.centre, drawing);
    draw_company(smear, placed, drawing);
    if (!drawn) continue;
    if (placed.called == kInflammation && recipe.overlooked > 0 && looking.chance(recipe.overlooked)) continue;
    const PixelBounds& b = drawn->box;
    patch.objects.push_back({.box = {static_cast<float>(b.x1), static_cast<float>(b.y1), static_cast<float>(b.x2),
                                     static_cast<float>(b.y2)},
                             .label = placed.called,
                             .difficult = drawn->visible < 0.5,
                             .crowd = false,
                             .area = static_cast<double>(b.area())});
  }
  if (soiled) draw_clutter_above(smear, slide, clutter, bystanders);
  patch.image = smear.develop(sensor);
  return patch;
}

void synthesize(const SynthesizeConfig& config, const std::filesystem::path& root) {
  check(config);
  claim(config, root);

  const int counts[] = {config.train, config.val, config.test};
  const auto image_file = [&](const std::string& name) { return root / "JPEGImages" / (name + ".png"); };
  const auto annotation_file = [&](const std::string& name) { return root / "Annotations" / (name + ".xml"); };
  // An interrupted run is continued: files appear under their names only when whole, the annotation last.
  std::vector<std::pair<Split, int>> missing;
  for (const Split split : {Split::train, Split::val, Split::test}) {
    const int count = counts[split_index(split)];
    std::string list;
    for (int i = 0; i < count; ++i) {
      const std::string name = patch_name(split, i);
      list += name + "\n";
      if (!fs::exists(image_file(name)) || !fs::exists(annotation_file(name))) missing.emplace_back(split, i);
    }
    const fs::path list_file = root / "ImageSets" / "Main" / fmt::format("{}.txt", kSplitNames[split_index(split)]);
    if (!fs::exists(list_file)) write_file(list_file, list);
  }
  if (!fs::exists(root / "classes.yaml")) write_file(root / "classes.yaml", classes_text());

  in_parallel(missing.size(), static_cast<size_t>(usable_processors()), [&](size_t i) {
    const auto [split, index] = missing[i];
    const std::string name = patch_name(split, index);
    const SynthesizedPatch patch = synthesize_patch(config, split, index);
    write_image(image_file(name), patch.image);
    write_file(annotation_file(name), annotation_text(name, patch));
  });
}

}  // namespace gradlibra
