// SPDX-License-Identifier: MIT
#include "runtime/device/cudnn_handle.h"

#include <array>
#include <stdexcept>

namespace gradlibra {

namespace {

struct Version {
  size_t major, minor, patch;
};

Version parse(size_t version) {
  const size_t unit = version < 10000 ? 1000 : 10000;
  return {version / unit, version % unit / 100, version % 100};
}

}  // namespace

void check(cudnnStatus_t status, std::source_location at) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 512> detail{};
  cudnnGetLastErrorString(detail.data(), detail.size());
  std::string message =
      std::string(at.file_name()) + ":" + std::to_string(at.line()) + ": " + cudnnGetErrorString(status);
  if (detail[0] != '\0') message += std::string(": ") + detail.data();
  throw std::runtime_error(message);
}

std::string cudnn_version_text(size_t version) {
  const Version v = parse(version);
  return std::to_string(v.major) + "." + std::to_string(v.minor) + "." + std::to_string(v.patch);
}

std::string cudnn_version_problem(size_t compiled, size_t loaded) {
  const Version wanted = parse(compiled), found = parse(loaded);
  if (found.major == wanted.major && found.minor >= wanted.minor) return "";
  const std::string series = std::to_string(wanted.major);
  return "cuDNN " + cudnn_version_text(loaded) + " was loaded, but this program was compiled with " +
         cudnn_version_text(compiled) + ": install cuDNN " + series + "." + std::to_string(wanted.minor) +
         " or a newer " + series + " (is another libcudnn.so." + series +
         " earlier in LD_LIBRARY_PATH?), or build again with the headers of the installed one";
}

CudnnHandle make_cudnn_handle(cudaStream_t stream) {
  const std::string problem = cudnn_version_problem(CUDNN_VERSION, cudnnGetVersion());
  if (!problem.empty()) throw std::runtime_error(problem);
  cudnnHandle_t handle = nullptr;
  check(cudnnCreate(&handle));
  CudnnHandle owner(handle);
  check(cudnnSetStream(handle, stream));
  return owner;
}

}  // namespace gradlibra
