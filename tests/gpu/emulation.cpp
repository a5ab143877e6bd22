// Runs the CUDA kernels' algorithm on the host, thread by thread, for test_emulation.py: a server on stdin and stdout.
//
// A request is a Header and the arrays in the operator's order; the answer is a status and, if it is 0, the results.
// Arrays are allocated to the byte, so that the address sanitizer sees every step beside them.

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "expert_gate.h"
#include "selective_scan.h"

namespace hyperline {
namespace {

struct Header {
    int64_t gate, type, sequences, length, channels, states, reverse, h0_rows, mask_rows, mask_steps;
    int64_t steps_first;  // arrays (L, S, X) instead of (S, L, X)
    int64_t in_place;     // h overwrites h0
    int64_t kept;
};

template <typename T>
std::vector<T> ReadArray(int64_t count) {
    std::vector<T> array(count);
    if (fread(array.data(), sizeof(T), array.size(), stdin) != array.size()) exit(3);
    return array;
}

template <typename T>
void Write(const std::vector<T>& array) {
    fwrite(array.data(), sizeof(T), array.size(), stdout);
}

template <int N, typename T>
void Run(const Scan<T>& scan) {
    const ScanPlan plan = PlanScan<N>(scan.sequences, scan.length, scan.channels);
    if (!plan.chunked) {
        for (int64_t walker = 0; walker < scan.sequences * scan.channels; ++walker) ScanDirect<N>(scan, walker);
        return;
    }
    // On the heap and new for every block, so that a number from an earlier block is never taken for this one's.
    for (int64_t block = 0; block < plan.blocks; ++block) {
        const auto shared = std::make_unique<ChunkedShared<N>>();
        memset(shared.get(), 0xff, sizeof *shared);
        const auto phase = [&](auto work) {
            for (int thread = 0; thread < plan.threads; ++thread)
                work(ChunkedScan<N, T>{scan, plan, *shared, block, thread});
        };
        phase([](const auto& thread) { thread.Summarise(); });
        phase([](const auto& thread) { thread.Combine(); });
        phase([](const auto& thread) { thread.Emit(); });
    }
}

template <typename T>
void ServeScan(const Header& header) {
    const int64_t S = header.sequences, L = header.length, D = header.channels, N = header.states;
    const auto u = ReadArray<T>(S * L * D), delta = ReadArray<T>(S * L * D);
    const auto A = ReadArray<float>(D * N);
    const auto B = ReadArray<T>(S * L * N), C = ReadArray<T>(S * L * N);
    const auto skip = ReadArray<float>(D), delta_bias = ReadArray<float>(D);
    auto h0 = ReadArray<float>(header.h0_rows * D * N);
    const auto mask = ReadArray<float>(header.mask_rows * header.mask_steps);
    std::vector<T> y(S * L * D);
    std::vector<float> h(header.in_place ? 0 : S * D * N);
    float* last = header.in_place ? h0.data() : h.data();

    const auto strided = [&](const auto& array, int64_t width) {
        return header.steps_first ? hyperline_cuda_input{array.data(), width, S * width}
                                  : hyperline_cuda_input{array.data(), L * width, width};
    };
    hyperline_cuda_scan scan{};
    scan.sequences = S;
    scan.length = L;
    scan.channels = D;
    scan.states = N;
    scan.reverse = static_cast<int32_t>(header.reverse);
    scan.type = static_cast<int32_t>(header.type);
    scan.u = strided(u, D);
    scan.delta = strided(delta, D);
    scan.B = strided(B, N);
    scan.C = strided(C, N);
    scan.mask = {mask.data(), header.mask_rows == 1 ? 0 : header.mask_steps, header.mask_steps == 1 ? 0 : 1};
    scan.A = A.data();
    scan.D = skip.data();
    scan.delta_bias = delta_bias.data();
    scan.h0 = h0.data();
    scan.h0_sequence_stride = header.h0_rows == 1 ? 0 : D * N;
    const hyperline_cuda_input y_strides = strided(y, D);
    const hyperline_cuda_output output{y.data(), y_strides.sequence_stride, y_strides.step_stride};

    const std::vector<int64_t> status{CheckScan(&scan, output, last)};
    Write(status);
    if (status[0] != HYPERLINE_CUDA_OK) return;
    WithStates(N, [&](auto states) {
        constexpr int kStates = decltype(states)::value;
        Run<kStates>(TypeScan<kStates, T>(scan, output, last));
    });
    Write(y);
    Write(header.in_place ? h0 : h);
}

template <typename T>
void ServeGate(const Header& header) {
    const int64_t count = header.sequences * header.channels;  // rows, experts
    const auto logits = ReadArray<T>(count);
    std::vector<T> weights(count), active(count);
    const std::vector<int64_t> status{CheckGate(header.sequences, header.channels, header.kept,
                                                static_cast<int32_t>(header.type), logits.data(), weights.data(),
                                                active.data())};
    Write(status);
    if (status[0] != HYPERLINE_CUDA_OK) return;
    const auto gate =
        TypeGate<T>(header.sequences, header.channels, header.kept, logits.data(), weights.data(), active.data());
    for (int64_t element = 0; element < count; ++element) GateExpert(gate, element);
    Write(weights);
    Write(active);
}

template <typename T>
void Serve(const Header& header) {
    if (header.gate)
        ServeGate<T>(header);
    else
        ServeScan<T>(header);
}

}  // namespace
}  // namespace hyperline

int main() {
    hyperline::Header header;
    while (fread(&header, sizeof header, 1, stdin) == 1) {
        if (header.type == HYPERLINE_CUDA_FLOAT32) {
            hyperline::Serve<float>(header);
        } else {
#if HYPERLINE_HAS_HALF
            hyperline::Serve<__half>(header);
#else
            return 4;
#endif
        }
        fflush(stdout);
    }
}
