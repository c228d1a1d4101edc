// SPDX-License-Identifier: MIT
// What ends a training from outside: an orderly way out for each, and a quick one for who insists.
#pragma once

#include <atomic>

namespace gradlibra {

// SIGINT, SIGQUIT (Ctrl-\), SIGTERM, SIGHUP (the terminal closed; ignored if it was, as under nohup), SIGUSR1, SIGUSR2,
// SIGXCPU (a limit on CPU time) and SIGPIPE (nobody reads the output any more): the value becomes the first one's
// number, so that the program can finish its step. A second one ends the program at once, with 128 + its number, unless
// it comes within a quarter of a second: terminals, shells and `timeout` send the same one twice. SIGPIPE and SIGXCPU,
// which come again by themselves, never do, nor does SIGTERM after SIGUSR1 or SIGUSR2: a scheduler has given notice,
// and has SIGKILL for who takes too long.
const std::atomic<int>& catch_signals();

// Where several ranks have agreed to stop and are on their way out: the first that has gone makes its launcher send
// SIGTERM to the others. Ctrl-C and Ctrl-\ still end the program at once.
void leave_only_to_who_insists();

}  // namespace gradlibra
