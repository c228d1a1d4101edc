// SPDX-License-Identifier: MIT
// Where the ranks of an emulated communicator meet: a thread that compares their calls and adds up what they bring.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace gradlibra::emulator {

// What a rank asks for. The bytes of an array may follow.
struct Call {
  enum class Kind { hello, all_reduce, broadcast, finalize, abort } kind = Kind::hello;
  int rank = 0, ranks = 0;
  int number = 0;  // of the rank's collectives, from 1
  size_t count = 0;
  int type = 0, op = 0, root = 0;
  bool registered = false;  // its memory
  size_t bytes = 0;         // that follow
};
struct Answer {
  enum class Kind { done, wrong, lost } kind = Kind::done;  // wrong: the program's mistake; lost: another rank is gone
  size_t bytes = 0;                                         // that follow: the result, or why
};

// "call 3, ncclAllReduce of 4 float32".
std::string to_string(const Call& call);
size_t bytes_of(const Call& call);

// Returns the address of a Unix socket where a thread waits for the ranks of one communicator. A rank connects, says
// hello, and gets one answer for every call when all have made theirs. A rank that differs from rank 0 and one that
// does not come within `timeout_seconds` are mistakes that all hear of.
std::string start_meeting(double timeout_seconds);
int connect_to_meeting(const std::string& address);  // a socket, -1: nobody is there

// False: the other side is gone.
bool send_bytes(int socket, const void* data, size_t bytes);
bool receive_bytes(int socket, void* data, size_t bytes);

}  // namespace gradlibra::emulator
