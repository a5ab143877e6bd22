// The C interface: checks what it is given, chooses the kernels of this machine, and shares the work out.

#include "hyperline/ops.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "kernels.h"
#include "threads.h"

namespace hyperline {
namespace {

// A thread's waking takes some 30 microseconds, so it should find more work than that. Once awake, a task of a
// microsecond or two is handed out for next to nothing, and none waits long for the last.
constexpr int64_t thread_updates = 1 << 16;
constexpr int64_t task_updates = 1 << 13;

const Kernels& kernels_of_this_machine() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        return avx512::kernels;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::kernels;
    return sse2::kernels;
#else
    return neon::kernels;
#endif
}

template <class Tensor>
bool missing(const Tensor& tensor) {
    return tensor.data == nullptr;
}

bool usable(const hyperline_scan& scan) {
    return scan.sequences >= 0 && scan.length >= 0 && scan.channels >= 1 && scan.states >= 1 && scan.threads >= 1 &&
           !(missing(scan.u) || missing(scan.delta) || missing(scan.B) || missing(scan.C) || missing(scan.mask)) &&
           scan.A && scan.D && scan.delta_bias && scan.h0;
}

int64_t updates(const hyperline_scan& scan) {
    return scan.sequences * scan.length * scan.channels * scan.states;
}

int worthwhile_threads(const hyperline_scan& scan) {
    return static_cast<int>(std::min<int64_t>(scan.threads, updates(scan) / thread_updates + 1));
}

// Runs what may throw on the way to the C interface.
template <class Work>
int guarded(const Work& work) noexcept {
    try {
        work();
        return HYPERLINE_OK;
    } catch (...) {  // nothing here throws but an allocation
        return HYPERLINE_OUT_OF_MEMORY;
    }
}

void forward(const hyperline_scan& scan, hyperline_output y, float* h) {
    if (scan.length == 0) {  // the state as it was
        const int64_t state = scan.channels * scan.states;
        for (int64_t s = 0; s < scan.sequences; s++) {
            std::copy_n(scan.h0 + s * scan.h0_sequence_stride, state, h + s * state);
        }
        return;
    }
    const Kernels& kernels = kernels_of_this_machine();
    const ForwardCall call = {scan, y, h, (scan.channels + span_channels - 1) / span_channels};
    const int64_t units = scan.sequences * call.spans;
    const int threads = worthwhile_threads(scan);
    const int64_t tasks = threads == 1 ? 1 : std::min(units, updates(scan) / task_updates + 1);
    run_parallel(tasks, threads,
                 [&](int64_t task, int) { kernels.forward(call, units * task / tasks, units * (task + 1) / tasks); });
}

void backward(const hyperline_scan& scan, hyperline_input grad_y, const hyperline_scan_gradients& gradients) {
    const Kernels& kernels = kernels_of_this_machine();
    const int64_t decays = scan.channels * scan.states, width = decays + 2 * scan.channels;
    const int64_t parts = scan.length ? std::min<int64_t>(scan.sequences, 64) : 0;
    const int threads = worthwhile_threads(scan);
    // A whole number of cache lines, so that no two workers share one.
    const int64_t each = (kernels.backward_workspace(scan) + 15) / 16 * 16;
    std::vector<float> sums(static_cast<size_t>(parts * width));
    const std::unique_ptr<float[]> workspace(new float[static_cast<size_t>(threads * each)]);
    const BackwardCall call = {scan, grad_y, gradients, parts, sums.data(), workspace.get()};
    run_parallel(parts, threads,
                 [&](int64_t part, int worker) { kernels.backward(call, part, call.workspace + worker * each); });
    // The order of this sum is fixed, whoever computed the parts.
    std::vector<double> total(static_cast<size_t>(width));
    for (int64_t part = 0; part < parts; part++) {
        for (int64_t k = 0; k < width; k++) total[k] += sums[part * width + k];
    }
    std::copy_n(total.begin(), decays, gradients.A);
    std::copy_n(total.begin() + decays, scan.channels, gradients.D);
    std::copy_n(total.begin() + decays + scan.channels, scan.channels, gradients.delta_bias);
}

}  // namespace
}  // namespace hyperline

extern "C" {

int hyperline_selective_scan(const hyperline_scan* scan, hyperline_output y, float* h) {
    if (!scan || !hyperline::usable(*scan) || !y.data || !h) return HYPERLINE_BAD_ARGUMENT;
    return hyperline::guarded([&] { hyperline::forward(*scan, y, h); });
}

int hyperline_selective_scan_backward(const hyperline_scan* scan, hyperline_input grad_y,
                                      const hyperline_scan_gradients* gradients) {
    if (!scan || !hyperline::usable(*scan) || !grad_y.data || !gradients) return HYPERLINE_BAD_ARGUMENT;
    const hyperline_scan_gradients& into = *gradients;
    if (!into.u.data || !into.delta.data || !into.B.data || !into.C.data || !into.A || !into.D || !into.delta_bias) {
        return HYPERLINE_BAD_ARGUMENT;
    }
    return hyperline::guarded([&] { hyperline::backward(*scan, grad_y, into); });
}

int hyperline_norm(const hyperline_norm_rows* rows) {
    if (!rows || rows->rows < 0 || rows->width < 1 || !rows->x || !rows->scale || !rows->bias || !rows->y ||
        rows->after < HYPERLINE_NORM_AS_IS || rows->after > HYPERLINE_NORM_GATED ||
        (rows->after == HYPERLINE_NORM_RELU && !rows->keep) || (rows->after == HYPERLINE_NORM_GATED && !rows->gate)) {
        return HYPERLINE_BAD_ARGUMENT;
    }
    hyperline::kernels_of_this_machine().norm(*rows);
    return HYPERLINE_OK;
}

int hyperline_centred_linear(const hyperline_centred_rows* rows) {
    if (!rows || rows->rows < 0 || rows->inputs < 1 || rows->outputs < 1 || !rows->x || !rows->mean || !rows->weight ||
        !rows->bias || !rows->y) {
        return HYPERLINE_BAD_ARGUMENT;
    }
    return hyperline::guarded([&] {
        const hyperline::Kernels& kernels = hyperline::kernels_of_this_machine();
        const std::unique_ptr<float[]> workspace(
            new float[static_cast<size_t>(kernels.centred_workspace(rows->inputs))]);
        kernels.centred_linear(*rows, workspace.get());
    });
}

int hyperline_pool(const hyperline_pool_block* block, int64_t first, int64_t last) {
    if (!block || block->lines < 0 || block->lines % 2 || block->samples < 0 || block->samples % 2 ||
        block->channels < 1 || !block->x || !block->mask || !block->y || !block->coarse || first < 0 || first > last ||
        last > block->lines / 2) {
        return HYPERLINE_BAD_ARGUMENT;
    }
    hyperline::kernels_of_this_machine().pool(*block, first, last);
    return HYPERLINE_OK;
}

int hyperline_decide(const hyperline_decision* decision) {
    if (!decision || decision->pixels < 0 || decision->classes < 1 || decision->classes > 255 || !decision->logits ||
        !decision->valid || !decision->labels || !decision->confidence) {
        return HYPERLINE_BAD_ARGUMENT;
    }
    hyperline::kernels_of_this_machine().decide(*decision);
    return HYPERLINE_OK;
}

const char* hyperline_status_text(int status) {
    switch (status) {
        case HYPERLINE_OK:
            return "done";
        case HYPERLINE_BAD_ARGUMENT:
            return "a negative size, a missing array, no threads, k outside the number of experts, or sums of too many "
                   "products for 32 bits";
        case HYPERLINE_OUT_OF_MEMORY:
            return "out of memory";
        default:
            return "unknown status";
    }
}

const char* hyperline_instruction_set(void) {
    return hyperline::kernels_of_this_machine().name;
}

int hyperline_ops_version(void) {
    return 4;
}

}  // extern "C"
