// SPDX-License-Identifier: MIT
// The safetensors format: byte-exact files, every limit of the format, and damaged files.
#include "runtime/base/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "tests/files.h"
#include "tests/messages.h"
#include "tests/support.h"

namespace gradlibra {
namespace {

using testing::kInfinity;
using testing::kNaN;

std::vector<std::byte> bytes_of(const std::string& text) {
  const auto raw = std::as_bytes(std::span(text));
  return {raw.begin(), raw.end()};
}
std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A file with the given header and data.
std::string make(const std::string& json, size_t data_bytes = 0) {
  const uint64_t length = json.size();
  std::string result(8, '\0');
  std::memcpy(result.data(), &length, 8);
  return result + json + std::string(data_bytes, '\0');
}

SafetensorsFile parse(const std::string& file) { return parse_safetensors(bytes_of(file), "test.safetensors"); }

std::string parse_error(const std::string& file) {
  std::string message = message_of<SafetensorsError>([&] { (void)parse(file); });
  EXPECT_TRUE(message.empty() || message.rfind("test.safetensors: ", 0) == 0) << message;
  return message;
}
void expect_error(const std::string& file, const std::string& part) { EXPECT_HAS(parse_error(file), part); }
std::string tensor(const std::string& name, const std::string& shape, const std::string& offsets,
                   const std::string& dtype = "F32") {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

// The format's own unit tests (safetensors/src/tensor.rs).
TEST(Safetensors, ByteExactFiles) {
  EXPECT_EQ(text_of(serialise_safetensors({})), std::string("\x08\0\0\0\0\0\0\0{}      ", 16));

  const std::vector<float> zeros(6, 0.0f);
  SafetensorsFile file;
  file.tensors["attn.0"] = make_file_tensor(zeros, {1, 2, 3});
  EXPECT_EQ(text_of(serialise_safetensors(file)),
            std::string("\x40\0\0\0\0\0\0\0", 8) +
                R"({"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}})" + std::string(24, '\0'));

  file = {};
  file.tensors["attn0"] = make_file_tensor(zeros, {1, 1, 2, 3});
  EXPECT_EQ(text_of(serialise_safetensors(file)),
            std::string("\x48\0\0\0\0\0\0\0", 8) +
                R"({"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}})" + "       " +
                std::string(24, '\0'));
}

TEST(Safetensors, WritesWideTypesFirstThenByName) {
  SafetensorsFile file;
  file.tensors["a"] = make_file_tensor(std::vector<uint8_t>{1, 2, 3}, {3});
  file.tensors["c"] = make_file_scalar(2.5f);
  file.tensors["b"] = make_file_scalar(1.5f);
  file.tensors["d"] = make_file_scalar(int64_t{-7});
  file.metadata = {{"step", "12"}, {"quote\"", "line\nbreak"}};
  const std::string text = text_of(serialise_safetensors(file));
  EXPECT_NE(
      text.find(
          R"({"__metadata__":{"quote\"":"line\nbreak","step":"12"},"d":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
          R"("b":{"dtype":"F32","shape":[],"data_offsets":[8,12]},"c":{"dtype":"F32","shape":[],"data_offsets":[12,16]},)"
          R"("a":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}})"),
      std::string::npos)
      << text;
  EXPECT_EQ(parse(text), file);
}

TEST(Safetensors, RoundTripsEverything) {
  SafetensorsFile file;
  file.tensors["floats"] =
      make_file_tensor(std::vector<float>{kNaN, kInfinity, -kInfinity, -0.0f, 1e-45f, 3.0f}, {2, 3});
  file.tensors["doubles"] = make_file_tensor(std::vector<double>{0.1, -1e300}, {2, 1});
  file.tensors["longs"] = make_file_tensor(std::vector<int64_t>{INT64_MIN, INT64_MAX}, {2});
  file.tensors["ints"] = make_file_tensor(std::vector<int32_t>{-1}, {1, 1, 1});
  file.tensors["bytes"] = make_file_tensor(std::vector<uint8_t>{0, 255}, {2});
  file.tensors["scalar"] = make_file_scalar(1.0);
  file.tensors["empty"] = make_file_tensor(std::vector<float>{}, {4, 0, 7});
  file.tensors["also empty"] = make_file_tensor(std::vector<int64_t>{}, {0});
  file.tensors["é \"quoted\" \\ \n"] = make_file_scalar(3.0f);
  file.tensors[""] = make_file_scalar(4.0f);
  file.metadata["config"] = "name: x\n# é\n";
  const SafetensorsFile back = parse(text_of(serialise_safetensors(file)));
  EXPECT_EQ(back, file);
  EXPECT_EQ(back.tensors.at("doubles").values<double>(), (std::vector<double>{0.1, -1e300}));
  EXPECT_EQ(back.tensors.at("longs").values<int64_t>(), (std::vector<int64_t>{INT64_MIN, INT64_MAX}));
  EXPECT_EQ(back.tensors.at("ints").values<int32_t>(), (std::vector<int32_t>{-1}));
  EXPECT_EQ(back.tensors.at("bytes").values<uint8_t>(), (std::vector<uint8_t>{0, 255}));
  EXPECT_EQ(back.tensors.at("scalar").values<double>(), (std::vector<double>{1.0}));
  EXPECT_TRUE(back.tensors.at("empty").to_floats().empty());
  EXPECT_TRUE(std::isnan(back.tensors.at("floats").to_floats()[0]));
  EXPECT_EQ(back.tensors.at("floats").size(), 6);
  EXPECT_THROW((void)back.tensors.at("ints").to_floats(), SafetensorsError);
  EXPECT_THROW((void)back.tensors.at("ints").values<float>(), SafetensorsError);
}

TEST(Safetensors, ReadsShorterFloats) {
  const auto sixteen = [](FileDType dtype, std::vector<uint16_t> values) {
    const auto raw = std::as_bytes(std::span(values));
    return FileTensor{dtype, {static_cast<int64_t>(values.size())}, {raw.begin(), raw.end()}}.to_floats();
  };
  const std::vector<float> half =
      sixteen(FileDType::f16, {0x3C00, 0xC000, 0x7BFF, 0x0001, 0x8400, 0x03FF, 0x8000, 0x7C00, 0xFC00, 0x7E01, 0x3555});
  EXPECT_EQ((std::vector<float>(half.begin(), half.begin() + 6)),
            (std::vector<float>{1, -2, 65504, 0x1p-24f, -0x1p-14f, 1023 * 0x1p-24f}));
  EXPECT_TRUE(half[6] == 0 && std::signbit(half[6]));
  EXPECT_EQ(half[7], kInfinity);
  EXPECT_EQ(half[8], -kInfinity);
  EXPECT_TRUE(std::isnan(half[9]));
  EXPECT_EQ(half[10], 0.333251953125f);
  EXPECT_EQ(sixteen(FileDType::bf16, {0x3F80, 0xC000, 0x0001}), (std::vector<float>{1, -2, 0x1p-133f}));
  EXPECT_EQ(make_file_tensor(std::vector<double>{0.1}, {1}).to_floats()[0], 0.1f);
}

TEST(Safetensors, RefusesWhatCannotBeWritten) {
  SafetensorsFile file;
  file.tensors["x"] = {FileDType::f32, {2}, std::vector<std::byte>(4)};
  EXPECT_THROW((void)serialise_safetensors(file), SafetensorsError);
  file.tensors["x"] = {FileDType::f32, {-1}, {}};
  EXPECT_THROW((void)serialise_safetensors(file), SafetensorsError);
  file.tensors = {{"__metadata__", make_file_scalar(1.0f)}};
  EXPECT_THROW((void)serialise_safetensors(file), SafetensorsError);
  file.tensors = {{"\xff", make_file_scalar(1.0f)}};
  EXPECT_THROW((void)serialise_safetensors(file), SafetensorsError);
  EXPECT_THROW((void)make_file_tensor(std::vector<float>{1, 2}, {3}), SafetensorsError);
}

TEST(Safetensors, LengthsAreChecked) {
  expect_error("", "at least 8");
  expect_error("1234567", "7 bytes");
  expect_error(std::string("\0\0\0\0\0\0\0\x80", 8) + "{}", "9223372036854775808");
  expect_error(std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8), "18446744073709551615");
  expect_error(std::string("\x01\xe1\xf5\x05\0\0\0\0{", 9), "100000001");
  expect_error(std::string("\x03\0\0\0\0\0\0\0{}", 10), "truncated");
  expect_error(make(""), "does not start with '{'");
  expect_error(make(" {}"), "does not start with '{'");
  expect_error(make("[]"), "does not start with '{'");
  expect_error(make("{}", 1), "too long");
  EXPECT_EQ(parse(make("{}  ")), SafetensorsFile());
  expect_error(make("{} x"), "damaged header");
  expect_error(make("{}{}"), "damaged header");
  expect_error(make(std::string("{} \0 x", 6)), "zero byte");
}

TEST(Safetensors, OffsetsAreChecked) {
  EXPECT_EQ(
      parse(make("{" + tensor("a", "[2]", "[0,8]") + "," + tensor("b", "[1]", "[8,12]") + "}", 12)).tensors.size(), 2u);
  EXPECT_EQ(
      parse(make("{" + tensor("b", "[1]", "[8,12]") + "," + tensor("a", "[2]", "[0,8]") + "}", 12)).tensors.size(), 2u);
  EXPECT_EQ(parse(make("{" + tensor("a", "[0]", "[4,4]") + "," + tensor("b", "[1]", "[0,4]") + "," +
                           tensor("c", "[0]", "[0,0]") + "}",
                       4))
                .tensors.size(),
            3u);
  expect_error(make("{" + tensor("a", "[2]", "[0,8]") + "," + tensor("b", "[1]", "[4,8]") + "}", 8),
               "tensor 'b': begins at byte 4, inside");
  expect_error(make("{" + tensor("a", "[2]", "[0,8]") + "," + tensor("b", "[1]", "[12,16]") + "}", 16),
               "tensor 'b': begins at byte 12, leaving a gap");
  expect_error(make("{" + tensor("a", "[1]", "[4,8]") + "}", 8), "gap");
  expect_error(make("{" + tensor("a", "[2]", "[0,8]") + "}", 7), "truncated: the tensors take 8 bytes, the file has 7");
  expect_error(make("{" + tensor("a", "[2]", "[0,8]") + "}", 9), "too long");
  expect_error(make("{" + tensor("a", "[2]", "[0,4]") + "}", 4), "tensor 'a'");
  expect_error(make("{" + tensor("a", "[1]", "[8,4]") + "}", 8), "tensor 'a'");
  expect_error(make("{" + tensor("a", "[1]", "[18446744073709551615,3]") + "}", 8), "tensor 'a'");
  expect_error(make("{" + tensor("a", "[1]", "[18446744073709551616,3]") + "}", 8), "tensor 'a'");
  expect_error(make("{" + tensor("a", "[1]", "[-4,0]") + "}", 8), "negative");
  expect_error(make("{" + tensor("a", "[1]", "[0,4,4]") + "}", 4), "two positions");
  expect_error(make("{" + tensor("a", "[1]", "[0]") + "}", 4), "no complete");
}

TEST(Safetensors, ShapesAndTypesAreChecked) {
  expect_error(make("{" + tensor("a", "[4294967296,4294967296]", "[0,0]") + "}"), "overflows");
  expect_error(make("{" + tensor("a", "[4611686018427387904]", "[0,0]") + "}"), "overflows");
  expect_error(make("{" + tensor("a", "[4294967296,4294967296,0]", "[0,0]") + "}"), "overflows");
  EXPECT_EQ(parse(make("{" + tensor("a", "[0,9223372036854775807]", "[0,0]") + "}")).tensors.size(), 1u);
  expect_error(make("{" + tensor("a", "[9223372036854775808]", "[0,0]") + "}"), "shape");
  expect_error(make("{" + tensor("a", "[-1]", "[0,4]") + "}", 4), "shape");
  expect_error(make("{" + tensor("a", "[1.0]", "[0,4]") + "}", 4), "shape");
  expect_error(make("{" + tensor("a", "[\"1\"]", "[0,4]") + "}", 4), "shape");
  expect_error(make("{" + tensor("a", "[[1]]", "[0,4]") + "}", 4), "shape");
  expect_error(make("{" + tensor("a", "1", "[0,4]") + "}", 4), "expected a list");
  expect_error(make("{" + tensor("some.weight", "[1]", "[0,4]", "F4") + "}", 4),
               "tensor 'some.weight': found the unknown dtype 'F4'");
  expect_error(make("{" + tensor("a", "[1]", "[0,4]", "f32") + "}", 4), "unknown dtype");
  for (const auto& [dtype, size] : std::map<std::string, size_t>{{"BOOL", 1},
                                                                 {"U8", 1},
                                                                 {"I8", 1},
                                                                 {"F8_E5M2", 1},
                                                                 {"F8_E4M3", 1},
                                                                 {"I16", 2},
                                                                 {"U16", 2},
                                                                 {"F16", 2},
                                                                 {"BF16", 2},
                                                                 {"I32", 4},
                                                                 {"U32", 4},
                                                                 {"F32", 4},
                                                                 {"I64", 8},
                                                                 {"U64", 8},
                                                                 {"F64", 8}}) {
    const SafetensorsFile file =
        parse(make("{" + tensor("a", "[3]", "[0," + std::to_string(3 * size) + "]", dtype) + "}", 3 * size));
    EXPECT_EQ(to_string(file.tensors.at("a").dtype), dtype);
    EXPECT_EQ(file.tensors.at("a").size(), 3);
  }
}

TEST(Safetensors, HeadersAreChecked) {
  const std::string a = tensor("a", "[1]", "[0,4]");
  expect_error(make("{" + a + "," + a + "}", 4), "'a' occurs twice");
  expect_error(make(R"({"__metadata__":{},"__metadata__":{}})"), "occurs twice");
  expect_error(make(R"({"__metadata__":{"k":"1","k":"2"}})"), "'k' twice");
  expect_error(make(R"({"__metadata__":{"k":1}})"), "expected text");
  expect_error(make(R"({"__metadata__":{"k":{}}})"), "an object");
  expect_error(make(R"({"__metadata__":[]})"), "expected an object");
  expect_error(make(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4), "'dtype' twice");
  expect_error(make(R"({"a":{"dtype":"F32","shape":[1]}})", 4), "no complete");
  expect_error(make(R"({"a":{"dtype":"F32","shape":[1],"offsets":[0,4]}})", 4), "unexpected key 'offsets'");
  expect_error(make(R"({"a":{"dtype":{},"shape":[1],"data_offsets":[0,4]}})", 4), "an object");
  expect_error(make(R"({"a":null})"), "null");
  expect_error(make(R"({"a":1})"), "expected an object");
  expect_error(make("{\"a\xff\":{}}"), "damaged header");
  expect_error(make("{\"a"), "damaged header");
  expect_error(make("{" + a), "damaged header");
  expect_error(make("{\"a\":" + std::string(1'000'000, '[')), "a list");
  expect_error(make("{\"a\":{\"shape\":" + std::string(1'000'000, '[')), "a list");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  expect_error(make(objects), "unexpected key 'a'");
}

TEST(Safetensors, AMillionTensors) {
  std::string json = "{";
  for (int i = 0; i < 1'000'000; ++i) {
    json += (i > 0 ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" +
            std::to_string(i) + "," + std::to_string(i + 1) + "]}";
  }
  EXPECT_EQ(parse(make(json + "}", 1'000'000)).tensors.size(), 1'000'000u);
}

TEST(Safetensors, MutatedFilesNeverCrash) {
  SafetensorsFile file;
  file.tensors["layer.weight"] = make_file_tensor(std::vector<float>(12, 1.0f), {3, 4});
  file.tensors["layer.count"] = make_file_scalar(int64_t{5});
  file.tensors["empty"] = make_file_tensor(std::vector<uint8_t>{}, {0});
  file.metadata["a"] = "b";
  const std::string good = text_of(serialise_safetensors(file));
  const std::string marks = "{}[]\",:0123456789-.eE\\ ";
  std::mt19937 random(11);
  int accepted = 0;
  for (int round = 0; round < 10'000; ++round) {
    std::string text = good;
    for (int edits = 1 + static_cast<int>(random() % 3); edits > 0 && !text.empty(); --edits) {
      const size_t at = random() % text.size();
      switch (random() % 5) {
        case 0:
          text[at] = static_cast<char>(random() & 255);
          break;
        case 1:
          text[at] = marks[random() % marks.size()];
          break;
        case 2:
          text.erase(at, 1 + random() % 4);
          break;
        case 3:
          text.insert(at, 1, marks[random() % marks.size()]);
          break;
        default:
          text.resize(at);
          break;
      }
    }
    try {
      const SafetensorsFile read = parse(text);
      ++accepted;
      EXPECT_EQ(parse(text_of(serialise_safetensors(read))), read);  // whatever was accepted is consistent
    } catch (const SafetensorsError&) {                              // any other exception fails the test
    }
  }
  EXPECT_GT(accepted, 0);  // changes in the data alone are not damage to the format
}

TEST(Safetensors, FilesOnDisk) {
  const TemporaryFolder temporary;
  const std::filesystem::path& folder = temporary.path();
  SafetensorsFile file;
  file.tensors["x"] = make_file_tensor(std::vector<float>{1, 2, 3}, {3});
  write_safetensors(folder / "a.safetensors", file);
  EXPECT_EQ(read_safetensors(folder / "a.safetensors"), file);
  write_safetensors(folder / "a.safetensors", {});  // over an existing file
  EXPECT_EQ(read_safetensors(folder / "a.safetensors"), SafetensorsFile());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);  // no temporary file is left
  const auto failure = [](const auto& action) { return message_of<SafetensorsError>(action); };
  EXPECT_HAS(failure([&] { (void)read_safetensors(folder / "none.safetensors"); }),
             "none.safetensors: cannot read: No such file");
  EXPECT_HAS(failure([&] { (void)read_safetensors(folder); }), folder.string());
  EXPECT_HAS(failure([&] { write_safetensors(folder / "a.safetensors" / "no" / "b.safetensors", file); }),
             "b.safetensors: cannot make its folder: Not a directory");
  // PyTorch's own formats: a zip file, and the pickles before it.
  for (const std::string begin : {"PK\x03\x04", "\x80\x02", "\x80\x04"}) {
    std::ofstream(folder / "b.pth", std::ios::binary) << begin << std::string(100, 'x');
    EXPECT_HAS(failure([&] { (void)read_safetensors(folder / "b.pth"); }), "scripts/pth_to_safetensors.py");
  }
  std::filesystem::remove(folder / "b.pth");
  file.tensors["bad"] = {FileDType::f32, {2}, {}};
  EXPECT_THROW(write_safetensors(folder / "b.safetensors", file), SafetensorsError);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);
}

}  // namespace
}  // namespace gradlibra
