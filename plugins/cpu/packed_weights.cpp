#include "packed_weights.h"

#include <map>
#include <mutex>
#include <new>

#include "quantized.h"

namespace hyperline {
namespace {

struct Packed {
    std::mutex mutex;
    std::map<int64_t, hyperline_quantized_weight*> living;  // by their numbers
    int64_t next = 0;
};

// Never destroyed: a session that ends with the process frees its weights when statics may be gone.
Packed& packed() {
    static Packed* const all = new Packed;
    return *all;
}

}  // namespace

bool remember_packed(hyperline_quantized_weight* weight) {
    try {
        Packed& all = packed();
        const std::lock_guard lock(all.mutex);
        all.living.emplace(all.next, weight);
        ++all.next;
        return true;
    } catch (const std::bad_alloc&) {
        return false;
    }
}

void forget_packed(const hyperline_quantized_weight* weight) {
    Packed& all = packed();
    const std::lock_guard lock(all.mutex);
    for (auto place = all.living.begin(); place != all.living.end(); ++place) {
        if (place->second != weight) continue;
        all.living.erase(place);
        return;
    }
}

}  // namespace hyperline

extern "C" int64_t hyperline_quantized_packed(int64_t first, int64_t room, hyperline_quantized_memory* memory) {
    hyperline::Packed& all = hyperline::packed();
    const std::lock_guard lock(all.mutex);
    int64_t written = 0;
    for (auto place = all.living.lower_bound(first); place != all.living.end() && written < room; ++place) {
        const hyperline_quantized_weight& weight = *place->second;
        memory[written++] = {weight.packed, weight.kernels->packed_bytes(weight)};
    }
    for (int64_t i = written; i < room; i++) memory[i] = {nullptr, 0};
    return all.next;
}
