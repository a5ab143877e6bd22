// Work shared between the caller and sleeping helpers.
#pragma once

#include <cstdint>
#include <functional>

namespace hyperline {

// Calls task(unit, worker) for every unit in [0, units), on at most `threads` threads, the caller's included. Workers
// are numbered from 0. Returns when all units are done. The task must not throw.
//
// Helpers sleep between calls and never spin; the caller spins for the few microseconds that a helper takes to finish.
// A helper that has not woken when the work runs out is not waited for, so a busy machine costs no more than one thread
// would. Where another call has the helpers, this one works alone: there are never more helpers than the largest number
// ever asked for.
void run_parallel(int64_t units, int threads, const std::function<void(int64_t unit, int worker)>& task);

}  // namespace hyperline
