# SPDX-License-Identifier: MIT
# Language level, warnings, sanitizers and ccache, the same for every target.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT DEFINED CMAKE_INSTALL_RPATH)
  set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)
endif()
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug or RelWithDebInfo" FORCE)
endif()

# The kernels' own CMakeLists asks for -O3; elsewhere it only costs time to compile.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()

# Contraction to fused multiply-adds is off: assigners compare recomputed overlaps for equality, and results should not
# depend on what the optimiser chose to fuse.
set(GRADLIBRA_CXX_FLAGS -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers -Werror -ffp-contract=off)
if(GRADLIBRA_NATIVE)
  list(APPEND GRADLIBRA_CXX_FLAGS -march=native)
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${GRADLIBRA_CXX_FLAGS}>")

if(GRADLIBRA_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()
if(GRADLIBRA_SANITIZE_THREADS)
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
endif()
if(GRADLIBRA_COVERAGE)
  add_compile_options(--coverage -fprofile-update=atomic)
  add_link_options(--coverage)
endif()

include_directories(${CMAKE_SOURCE_DIR})
