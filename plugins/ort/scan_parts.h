// A scan on the CPU, cut into parts of some sequences each, for the threads of the session.
#ifndef HYPERLINE_ORT_SCAN_PARTS_H
#define HYPERLINE_ORT_SCAN_PARTS_H

#include <algorithm>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "half.h"
#include "hyperline/ops.h"
#include "parts.h"

namespace hyperline {

// A part of a scan is what one thread takes at once: about 10 µs of work. Smaller parts cost more to hand out than
// they balance, larger ones leave a thread idle at the end.
inline constexpr int64_t kUpdatesPerPart = 1 << 15;

// One scan, done some sequences at a time. FP16 is converted part by part, so that what the kernel reads is still in
// cache.
template <typename Number>
struct ScanParts {
    hyperline_scan scan;  // u, delta, B and C point to Numbers; those of FP16 are contiguous
    Number* y;
    float* h;  // null where nobody wants it

    int Run(int64_t first, int64_t last) const noexcept {
        constexpr bool kHalf = std::is_same_v<Number, Half>;
        hyperline_scan some = scan;
        some.sequences = last - first;
        const int64_t rows = some.sequences * scan.length;
        const std::unique_ptr<float[]> scratch(
            kHalf ? new (std::nothrow) float[rows * (3 * scan.channels + 2 * scan.states)] : nullptr);
        // A state that nobody wants stays in cache: written out, that of 2048 pixels would be 2 MB a scan.
        const int64_t state = scan.channels * scan.states;
        const std::unique_ptr<float[]> unwanted(h ? nullptr : new (std::nothrow) float[some.sequences * state]);
        if ((kHalf && !scratch) || (!h && !unwanted)) return HYPERLINE_OUT_OF_MEMORY;

        float* free = scratch.get();
        for (hyperline_input* input : {&some.u, &some.delta, &some.B, &some.C}) {
            const int64_t count = some.sequences * input->sequence_stride;
            const Number* numbers = reinterpret_cast<const Number*>(input->data) + first * input->sequence_stride;
            if constexpr (kHalf) {
                ToFloat(numbers, count, free);
                input->data = std::exchange(free, free + count);
            } else {
                input->data = numbers;
            }
        }
        some.mask.data += first * some.mask.sequence_stride;
        some.h0 += first * some.h0_sequence_stride;
        const int64_t y_stride = scan.length * scan.channels;
        Number* const y_numbers = y + first * y_stride;
        float* const some_h = h ? h + first * state : unwanted.get();
        if constexpr (kHalf) {
            const int result = hyperline_selective_scan(&some, {free, y_stride, scan.channels}, some_h);
            if (result == HYPERLINE_OK) ToHalf(free, rows * scan.channels, y_numbers);
            return result;
        } else {
            return hyperline_selective_scan(&some, {y_numbers, y_stride, scan.channels}, some_h);
        }
    }
};

template <typename Number>
void RunParts(const Ort::KernelContext& context, ScanParts<Number> parts) {
    // the session's threads share out the parts; a second pool would fight them for the cores
    parts.scan.threads = 1;
    const int64_t updates = parts.scan.length * parts.scan.channels * parts.scan.states;
    InParts(context, parts.scan.sequences, kUpdatesPerPart / std::max<int64_t>(1, updates),
            [&](int64_t first, int64_t last) { return parts.Run(first, last); });
}

}  // namespace hyperline

#endif
