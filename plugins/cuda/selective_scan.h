// The selective scan as the work of single threads, in C++ that a host compiler takes too.
//
// A thread owns one channel of one sequence and keeps its N states in registers. Two arrangements:
//
//   direct   many sequences: a thread walks all L steps. Neighbouring threads own neighbouring channels, so that loads
//            of u, delta and y are coalesced and those of B and C are shared through L1.
//   chunked  few sequences, many steps (the lines of a block scanned across track): a thread block owns a sequence and
//            up to 8 of its channels, cuts the steps into chunks, and works in three phases:
//              summarise  each thread scans its chunk from a zero state and adds up the steps it took;
//              combine    the operator (a, b) . (a', b') = (a a', a' b + b') is associative, so the state before every
//                         chunk follows from the summaries; a chunk's a is 2^(A log2(e) sum of steps), one number a
//                         channel. One thread a state walks the chunks, some ten clocks each: at most 128 of
//                         them for 4 channels or more, too little to be worth a tree;
//              emit       each thread scans its chunk again from its true state and writes y.
//            Twice the arithmetic for as many times the threads as there are chunks.
//
// A state update costs 1 exp2, 2 multiplications and 2 fused multiply-adds; N of them share the loads of u and delta
// and the softplus. Bytes a step and sequence: (3 D + 2 N) times 4 or 2; chunked reads u, delta and B twice, the second
// time from L2.

#ifndef HYPERLINE_PLUGINS_CUDA_SELECTIVE_SCAN_H
#define HYPERLINE_PLUGINS_CUDA_SELECTIVE_SCAN_H

#include <type_traits>

#include "arithmetic.h"
#include "hyperline/cuda_ops.h"

namespace hyperline {

template <typename T>
struct Tensor {
    T* data;
    int64_t sequence_stride, step_stride;
};

// A checked call with its pointers typed.
template <typename T>
struct Scan {
    Tensor<const T> u, delta, B, C;
    Tensor<const float> mask;
    Tensor<T> y;
    const float *A, *D, *delta_bias, *h0;
    int64_t h0_sequence_stride;
    float* h;
    int64_t sequences;
    int length, channels, states;
    bool reverse;
    bool row_vectors;    // rows of B and C are N long and aligned to packets
    bool state_vectors;  // likewise rows of A, h0 and h
};

// How a scan is laid out on the GPU. It follows from the sizes alone, so equal inputs give equal bits on every GPU.
struct ScanPlan {
    bool chunked;
    int threads;  // of a block
    int64_t blocks;
    int group_channels;  // chunked: channels of a block
    int groups;          // chunked: blocks of a sequence
    int chunks;          // chunked: of a sequence
    int chunk_steps;     // chunked: steps of every chunk but the last
};

constexpr int kDirectThreads = 128;
// 8 float32 channels are a 32-byte sector, the least that a load brings.
constexpr int kGroupChannels = 8;
// Below this many channels of sequences a GPU of 8 to 16 multiprocessors idles in the direct arrangement.
constexpr int64_t kChunkedBelow = 2048;
constexpr int kLeastChunkSteps = 8;

// The chunks' states stand in shared memory, which without asking is 48 KiB a block.
template <int N>
inline constexpr int kChunkedThreads = N <= 16 ? 512 : 256;

template <int N>
HYPERLINE_HD ScanPlan PlanScan(int64_t sequences, int length, int channels) {
    ScanPlan plan{};
    const int64_t walkers = sequences * channels;
    plan.chunked = walkers < kChunkedBelow && length >= 4 * kLeastChunkSteps;
    if (!plan.chunked) {
        plan.threads = kDirectThreads;
        plan.blocks = (walkers + kDirectThreads - 1) / kDirectThreads;
        return plan;
    }
    plan.groups = (channels + kGroupChannels - 1) / kGroupChannels;
    plan.group_channels = (channels + plan.groups - 1) / plan.groups;
    const int most = kChunkedThreads<N> / plan.group_channels;
    const int wanted = (length + kLeastChunkSteps - 1) / kLeastChunkSteps;
    plan.chunk_steps = (length + (wanted < most ? wanted : most) - 1) / (wanted < most ? wanted : most);
    plan.chunks = (length + plan.chunk_steps - 1) / plan.chunk_steps;
    plan.threads = (plan.chunks * plan.group_channels + 31) / 32 * 32;
    plan.blocks = sequences * plan.groups;
    return plan;
}

// Walks one channel of one sequence over the steps [first, last), counted in the order taken, and moves h along.
// `rate` is A log2(e). Returns the sum of the step sizes taken. Writes y where kEmit.
//
// A masked step reads no B and leaves h alone: held to the bit, whatever stands in the inputs. What stands alone in a
// thread (u, delta, mask) is loaded a step ahead, so that a step waits for no more than its rows of B and C.
template <bool kEmit, int N, typename T>
HYPERLINE_HD float Walk(const Scan<T>& scan, int64_t sequence, int channel, int first, int last, const float (&rate)[N],
                        float (&h)[N]) {
    const float bias = scan.delta_bias[channel], skip = scan.D[channel];
    const auto place = [&](int k) -> int64_t { return scan.reverse ? scan.length - 1 - k : k; };
    const auto at = [&](const auto& tensor, int k) {
        return tensor.data + sequence * tensor.sequence_stride + place(k) * tensor.step_stride;
    };
    float factor = *at(scan.mask, first), input = ToFloat(at(scan.u, first)[channel]);
    float raw = ToFloat(at(scan.delta, first)[channel]);
    float total = 0.0f;
    for (int k = first; k < last; ++k) {
        float C_row[N];
        if (kEmit) LoadRow(at(scan.C, k), scan.states, scan.row_vectors, C_row);
        const int ahead = k + 1 < last ? k + 1 : k;
        const float next_factor = *at(scan.mask, ahead), next_input = ToFloat(at(scan.u, ahead)[channel]);
        const float next_raw = ToFloat(at(scan.delta, ahead)[channel]);
        if (factor != 0.0f) {
            float B_row[N];
            LoadRow(at(scan.B, k), scan.states, scan.row_vectors, B_row);
            const float step = Softplus(raw + bias) * factor;
            const float drive = step * input;
            total += step;
#pragma unroll
            for (int n = 0; n < N; ++n) h[n] = fmaf(Decay<T>(step * rate[n]), h[n], drive * B_row[n]);
        }
        if (kEmit) {
            float sum[4] = {skip * input, 0.0f, 0.0f, 0.0f};  // four short chains: less latency, less rounding
#pragma unroll
            for (int n = 0; n < N; ++n) sum[n % 4] = fmaf(h[n], C_row[n], sum[n % 4]);
            Store((sum[0] + sum[1]) + (sum[2] + sum[3]), at(scan.y, k) + channel);
        }
        factor = next_factor;
        input = next_input;
        raw = next_raw;
    }
    return total;
}

template <int N, typename T>
HYPERLINE_HD void LoadRates(const Scan<T>& scan, int channel, float (&rate)[N]) {
    LoadRow(scan.A + static_cast<int64_t>(channel) * scan.states, scan.states, scan.state_vectors, rate);
#pragma unroll
    for (int n = 0; n < N; ++n) rate[n] *= kLog2E;
}

// The direct arrangement: thread `walker` of S D.
template <int N, typename T>
HYPERLINE_HD void ScanDirect(const Scan<T>& scan, int64_t walker) {
    const int64_t sequence = walker / scan.channels;
    const int channel = static_cast<int>(walker - sequence * scan.channels);
    float rate[N], h[N];
    LoadRates(scan, channel, rate);
    const int64_t row = static_cast<int64_t>(channel) * scan.states;
    LoadRow(scan.h0 + sequence * scan.h0_sequence_stride + row, scan.states, scan.state_vectors, h);
    Walk<true>(scan, sequence, channel, 0, scan.length, rate, h);
    StoreRow(h, scan.states, scan.state_vectors, scan.h + sequence * scan.channels * scan.states + row);
}

// What the threads of a block share. Rows of N + 1 keep them on different banks.
template <int N>
struct ChunkedShared {
    float state[kChunkedThreads<N>][N + 1];
    float total[kChunkedThreads<N>];
};

// The chunked arrangement: thread `thread` of block `block`; a barrier stands between the phases.
template <int N, typename T>
struct ChunkedScan {
    const Scan<T>& scan;
    const ScanPlan& plan;
    ChunkedShared<N>& shared;
    int64_t block;
    int thread;

    HYPERLINE_HD int64_t sequence() const { return block / plan.groups; }
    HYPERLINE_HD int first_channel() const {
        return static_cast<int>(block - sequence() * plan.groups) * plan.group_channels;
    }
    HYPERLINE_HD int channel() const { return first_channel() + thread % plan.group_channels; }
    HYPERLINE_HD int chunk() const { return thread / plan.group_channels; }
    HYPERLINE_HD int first_step() const { return chunk() * plan.chunk_steps; }
    HYPERLINE_HD int last_step() const {
        return first_step() + plan.chunk_steps < scan.length ? first_step() + plan.chunk_steps : scan.length;
    }
    HYPERLINE_HD bool idle() const { return chunk() >= plan.chunks || channel() >= scan.channels; }

    HYPERLINE_HD void Summarise() const {
        if (idle()) return;
        float rate[N], h[N] = {};
        LoadRates(scan, channel(), rate);
        shared.total[thread] = Walk<false>(scan, sequence(), channel(), first_step(), last_step(), rate, h);
#pragma unroll
        for (int n = 0; n < N; ++n) shared.state[thread][n] = h[n];
    }

    HYPERLINE_HD void Combine() const {
        const int left = scan.channels - first_channel();
        const int states = (left < plan.group_channels ? left : plan.group_channels) * scan.states;
        for (int at = thread; at < states; at += plan.threads) {
            const int lane = at / scan.states, n = at - lane * scan.states;
            const int64_t row = static_cast<int64_t>(first_channel()) * scan.states + at;
            const float rate = scan.A[row] * kLog2E;
            float h = scan.h0[sequence() * scan.h0_sequence_stride + row];
            for (int chunk = 0; chunk < plan.chunks; ++chunk) {
                const int owner = chunk * plan.group_channels + lane;
                const float before = h;
                const float total = shared.total[owner];
                if (total != 0.0f) h = fmaf(Exp2(total * rate), h, shared.state[owner][n]);
                shared.state[owner][n] = before;
            }
            scan.h[sequence() * scan.channels * scan.states + row] = h;
        }
    }

    HYPERLINE_HD void Emit() const {
        if (idle()) return;
        float rate[N], h[N];
        LoadRates(scan, channel(), rate);
#pragma unroll
        for (int n = 0; n < N; ++n) h[n] = shared.state[thread][n];
        Walk<true>(scan, sequence(), channel(), first_step(), last_step(), rate, h);
    }
};

// ---------------------------------------------------------------------------------------------------- on the host

inline bool Aligned(const void* pointer, int64_t bytes) {
    return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

inline int CheckScan(const hyperline_cuda_scan* scan, const hyperline_cuda_output& y, const float* h) {
    if (!scan || scan->sequences < 1 || scan->length < 1 || scan->channels < 1 || scan->states < 1)
        return HYPERLINE_CUDA_BAD_ARGUMENT;
    const void* pointers[] = {scan->u.data,
                              scan->delta.data,
                              scan->B.data,
                              scan->C.data,
                              scan->mask.data,
                              scan->A,
                              scan->D,
                              scan->delta_bias,
                              scan->h0,
                              y.data,
                              h};
    for (const void* pointer : pointers) {
        if (!pointer) return HYPERLINE_CUDA_BAD_ARGUMENT;
    }
    if (scan->type != HYPERLINE_CUDA_FLOAT32 && scan->type != HYPERLINE_CUDA_FLOAT16)
        return HYPERLINE_CUDA_BAD_ARGUMENT;
    if (scan->states > HYPERLINE_CUDA_MAX_STATES) return HYPERLINE_CUDA_TOO_MANY_STATES;
    // A launch has at most 2^31 - 1 blocks; lengths and channels are counted in 32 bits.
    constexpr int64_t kMost = INT32_MAX / 2;
    if (scan->length > kMost || scan->channels > kMost || scan->sequences > kMost ||
        scan->sequences * scan->channels / kDirectThreads > kMost)
        return HYPERLINE_CUDA_TOO_LARGE;
    return HYPERLINE_CUDA_OK;
}

template <int N, typename T>
Scan<T> TypeScan(const hyperline_cuda_scan& from, const hyperline_cuda_output& y, float* h) {
    const auto typed = [](const auto& tensor, auto* data) {
        using Number = std::remove_pointer_t<decltype(data)>;
        return Tensor<Number>{static_cast<Number*>(tensor.data), tensor.sequence_stride, tensor.step_stride};
    };
    constexpr int64_t kPacket = N * sizeof(T) < 16 ? N * sizeof(T) : 16;
    const auto rows_aligned = [](const hyperline_cuda_input& tensor) {
        return Aligned(tensor.data, kPacket) && tensor.sequence_stride * int64_t{sizeof(T)} % kPacket == 0 &&
               tensor.step_stride * int64_t{sizeof(T)} % kPacket == 0;
    };
    const T* number = nullptr;
    Scan<T> to{};
    to.u = typed(from.u, number);
    to.delta = typed(from.delta, number);
    to.B = typed(from.B, number);
    to.C = typed(from.C, number);
    to.mask = typed(from.mask, from.A);
    to.y = typed(y, static_cast<T*>(nullptr));
    to.A = from.A;
    to.D = from.D;
    to.delta_bias = from.delta_bias;
    to.h0 = from.h0;
    to.h0_sequence_stride = from.h0_sequence_stride;
    to.h = h;
    to.sequences = from.sequences;
    to.length = static_cast<int>(from.length);
    to.channels = static_cast<int>(from.channels);
    to.states = static_cast<int>(from.states);
    to.reverse = from.reverse != 0;
    to.row_vectors = from.states == N && rows_aligned(from.B) && rows_aligned(from.C);
    to.state_vectors = from.states == N && Aligned(from.A, 16) && Aligned(from.h0, 16) && Aligned(h, 16) &&
                       from.h0_sequence_stride % 4 == 0;
    return to;
}

// Calls `run` with the least N that holds the states, as a constant: 4, 8, 16 or 32.
template <typename Run>
auto WithStates(int64_t states, Run&& run) {
    if (states <= 4) return run(std::integral_constant<int, 4>{});
    if (states <= 8) return run(std::integral_constant<int, 8>{});
    if (states <= 16) return run(std::integral_constant<int, 16>{});
    return run(std::integral_constant<int, 32>{});
}

}  // namespace hyperline

#endif
