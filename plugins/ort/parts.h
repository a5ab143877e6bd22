// A kernel's work in parts, for the threads of its session.
#ifndef HYPERLINE_ORT_PARTS_H
#define HYPERLINE_ORT_PARTS_H

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "hyperline/ops.h"
#include "op.h"

namespace hyperline {

inline void Require(int status) {
    if (status != HYPERLINE_OK) throw Ort::Exception(hyperline_status_text(status), ORT_FAIL);
}

// Calls run(first, last), which returns a status, on the threads of the session until 0 .. count is done, `each` at
// once.
template <typename Run>
void InParts(const Ort::KernelContext& context, int64_t count, int64_t each, const Run& run) {
    if (count == 0) return;
    struct Parts {
        const Run& run;
        int64_t count, each;
        std::atomic<int> status{HYPERLINE_OK};
    } parts{run, count, std::max<int64_t>(1, each)};
    const auto number = static_cast<size_t>((count + parts.each - 1) / parts.each);
    const auto one = [](void* self, size_t part) {
        Parts& of = *static_cast<Parts*>(self);
        const int64_t first = static_cast<int64_t>(part) * of.each;
        const int status = of.run(first, std::min(first + of.each, of.count));
        if (status != HYPERLINE_OK) of.status = status;
    };
    // as many batches as parts: a thread that is held up is overtaken
    context.ParallelFor(one, number, number, &parts);
    Require(parts.status);
}

}  // namespace hyperline

#endif
