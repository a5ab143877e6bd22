// The INT8 kernels of every instruction set that this machine has, against plain loops over whole numbers, on random
// shapes and ranges. Arrays are exactly as large as they must be, so that the address sanitizer sees a step too far.
//
// Prints one line an instruction set. Exit code 1 and the first difference where something is wrong.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <random>

#include "quantized.h"
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace {

using hyperline::QuantizedKernels;

constexpr float untouched = -12345.0f;

template <class Number>
struct Array {
    std::unique_ptr<Number[]> data;
    int64_t size;
    explicit Array(int64_t n) : data(new Number[static_cast<size_t>(n)]), size(n) {}
    Number& operator[](int64_t i) const { return data[i]; }
};

// Memory at a cache line, filled with what must never matter.
struct Memory {
    void* data;
    explicit Memory(int64_t bytes) : data(::operator new(static_cast<size_t>(bytes), std::align_val_t{64})) {
        std::fill_n(static_cast<unsigned char*>(data), bytes, static_cast<unsigned char>(0xA5));
    }
    ~Memory() { ::operator delete(data, std::align_val_t{64}); }
};

struct Random {
    std::mt19937 bits;
    int64_t integer(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(bits); }
    Array<float> numbers(int64_t n, double deviation) {
        Array<float> array(n);
        std::normal_distribution<double> draw(0.0, deviation);
        for (int64_t i = 0; i < n; i++) array[i] = static_cast<float>(draw(bits));
        return array;
    }
    // Exact ties of the scale, values that saturate, and now and then no number.
    Array<float> activations(int64_t n, float scale) {
        Array<float> array = numbers(n, 60.0 * scale);
        for (int64_t i = 0; i < n; i++) {
            if (integer(0, 3) == 0) array[i] = static_cast<float>(integer(-270, 270)) * 0.5f * scale;
            if (integer(0, 999) == 0) array[i] = std::numeric_limits<float>::quiet_NaN();
            if (integer(0, 999) == 0) array[i] = -std::numeric_limits<float>::infinity();
        }
        return array;
    }
    Array<int8_t> weights(int64_t n) {
        Array<int8_t> array(n);
        const bool extreme = integer(0, 4) == 0;
        for (int64_t i = 0; i < n; i++) array[i] = static_cast<int8_t>(extreme ? -128 : integer(-128, 127));
        return array;
    }
};

int64_t quantized(float x, float scale) {
    const float ratio = x / scale;
    if (std::isnan(ratio)) return -128;
    return static_cast<int64_t>(std::nearbyint(std::min(std::max(ratio, -128.0f), 127.0f)));
}

bool close(const char* set, const char* layer, float got, int64_t sum, double scale, double bias, int32_t after,
           double residual) {
    const double product = static_cast<double>(sum) * scale, exact = product + bias;
    const double expected = after == HYPERLINE_RELU   ? std::max(exact, 0.0)
                            : after == HYPERLINE_ADD  ? exact + residual
                            : after == HYPERLINE_SILU ? exact / (1.0 + std::exp(-exact))
                            : after == HYPERLINE_GELU
                                ? exact / (1.0 + std::exp(-1.5957691216 * (exact + 0.044715 * exact * exact * exact)))
                                : exact;
    const double error = std::abs(got - expected);
    // the slope of both is at most 1.2, and they round a few times themselves
    const double of_gate = after >= HYPERLINE_SILU ? 6e-7 * std::abs(expected) + 1e-30 : 0.0;
    if (error <= 4.8e-7 * (std::abs(product) + std::abs(bias) + std::abs(residual)) + of_gate) return true;
    std::printf("%s: %s gives %.9g, not %.9g\n", set, layer, static_cast<double>(got), expected);
    return false;
}

bool linear_agrees(const QuantizedKernels& kernels, Random& random) {
    const int64_t rows = random.integer(0, 150), I = random.integer(1, 150), O = random.integer(1, 150);
    const bool bias_of_rows = random.integer(0, 1) == 1;
    const auto after = static_cast<int32_t>(random.integer(HYPERLINE_AS_IS, HYPERLINE_GELU));
    const float x_scale = static_cast<float>(random.integer(1, 1000)) * 1e-4f;
    const auto x = random.activations(rows * I, x_scale);
    const auto residual = random.numbers(after == HYPERLINE_ADD ? rows * O : 0, 1.0);
    const auto bias = random.numbers(bias_of_rows ? rows * O : O, 1.0), scale = random.numbers(O, 1e-3);
    const auto from = random.weights(I * O);
    const Array<float> y(rows * O);

    hyperline_quantized_weight weight = {&kernels, 1, I, O, nullptr};
    const Memory packed(kernels.packed_bytes(weight)), workspace(kernels.linear_workspace(weight));
    weight.packed = packed.data;
    kernels.pack(weight, from.data.get(), {0, O, 1});
    const hyperline_quantized_layer layer = {&weight, scale.data.get(), x_scale};
    const hyperline_quantized_rows given = {rows,  x.data.get(),        bias.data.get(), bias_of_rows ? O : 0,
                                            after, residual.data.get(), y.data.get()};
    kernels.linear(layer, given, workspace.data);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t o = 0; o < O; o++) {
            int64_t sum = 0;
            for (int64_t i = 0; i < I; i++) sum += quantized(x[r * I + i], x_scale) * from[i * O + o];
            const double product = static_cast<double>(x_scale) * scale[o];
            if (!close(kernels.name, "a linear layer", y[r * O + o], sum, product, bias[(bias_of_rows ? r * O : 0) + o],
                       after, after == HYPERLINE_ADD ? residual[r * O + o] : 0.0)) {
                return false;
            }
        }
    }
    return true;
}

bool block_conv_agrees(const QuantizedKernels& kernels, Random& random) {
    const int64_t K = random.integer(1, 9), W = random.integer(1, 60), I = random.integer(1, 40);
    const int64_t O = random.integer(1, 80), first = random.integer(0, W), last = random.integer(first, W);
    const auto after = static_cast<int32_t>(random.integer(HYPERLINE_AS_IS, HYPERLINE_GELU));
    const auto residual = random.numbers(after == HYPERLINE_ADD ? K * W * O : 0, 1.0);
    const float x_scale = static_cast<float>(random.integer(1, 1000)) * 1e-4f;
    const auto past = random.activations(W * I, x_scale), x = random.activations(K * W * I, x_scale);
    const auto bias = random.numbers(O, 1.0), scale = random.numbers(O, 1e-3);
    const auto from = random.weights(O * I * 9);
    const Array<float> y(K * W * O);
    std::fill_n(y.data.get(), y.size, untouched);

    hyperline_quantized_weight weight = {&kernels, 9, I, O, nullptr};
    const Memory packed(kernels.packed_bytes(weight)), workspace(kernels.block_conv_workspace(weight, K));
    weight.packed = packed.data;
    kernels.pack(weight, from.data.get(), {1, 9, I * 9});
    const hyperline_quantized_layer layer = {&weight, scale.data.get(), x_scale};
    const hyperline_quantized_block block = {
        K, W, past.data.get(), x.data.get(), bias.data.get(), after, residual.data.get(), y.data.get()};
    kernels.block_conv(layer, block, first, last, workspace.data);
    const auto seen = [&](int64_t line, int64_t sample, int64_t i) -> int64_t {
        if (line > K || sample < 0 || sample >= W) return 0;
        return quantized(line ? x[((line - 1) * W + sample) * I + i] : past[sample * I + i], x_scale);
    };
    for (int64_t k = 0; k < K; k++) {
        for (int64_t w = 0; w < W; w++) {
            for (int64_t o = 0; o < O; o++) {
                const float got = y[(k * W + w) * O + o];
                if (w < first || w >= last) {
                    if (got == untouched) continue;
                    std::printf("%s: a convolution writes beyond its samples\n", kernels.name);
                    return false;
                }
                int64_t sum = 0;
                for (int64_t tap = 0; tap < 9; tap++) {
                    for (int64_t i = 0; i < I; i++) {
                        sum += seen(k + tap / 3, w + tap % 3 - 1, i) * from[(o * I + i) * 9 + tap];
                    }
                }
                const double product = static_cast<double>(x_scale) * scale[o];
                const double added = after == HYPERLINE_ADD ? residual[(k * W + w) * O + o] : 0.0;
                if (!close(kernels.name, "a convolution", got, sum, product, bias[o], after, added)) return false;
            }
        }
    }
    return true;
}

struct Set {
    const QuantizedKernels& kernels;
    bool supported;
};

// Through the C interface: what it refuses.
bool refuses() {
    const int8_t from[9] = {};
    const float numbers[9] = {};
    float y[9];
    hyperline_quantized_weight* weight = nullptr;
    if (hyperline_quantized_pack_linear(0, 1, from, &weight) != HYPERLINE_BAD_ARGUMENT) return false;
    if (hyperline_quantized_pack_linear(131072, 1, from, &weight) != HYPERLINE_BAD_ARGUMENT) return false;
    if (hyperline_quantized_pack_block_conv(14564, 1, from, &weight) != HYPERLINE_BAD_ARGUMENT) return false;
    if (hyperline_quantized_pack_linear(3, 3, from, &weight) != HYPERLINE_OK) return false;
    const hyperline_quantized_layer layer = {weight, numbers, 1.0f};
    const hyperline_quantized_block block = {1, 1, numbers, numbers, numbers, HYPERLINE_AS_IS, nullptr, y};
    using Rows = hyperline_quantized_rows;
    const auto linear = [&](const hyperline_quantized_layer* one, const Rows& rows) {
        return hyperline_quantized_linear(one, &rows);
    };
    const Rows rows = {3, numbers, numbers, 0, HYPERLINE_AS_IS, nullptr, y};
    const bool refused =
        linear(&layer, Rows{-1, numbers, numbers, 0, HYPERLINE_AS_IS, nullptr, y}) == HYPERLINE_BAD_ARGUMENT &&
        linear(&layer, Rows{1, numbers, numbers, 1, HYPERLINE_AS_IS, nullptr, y}) == HYPERLINE_BAD_ARGUMENT &&
        linear(&layer, Rows{1, nullptr, numbers, 0, HYPERLINE_AS_IS, nullptr, y}) == HYPERLINE_BAD_ARGUMENT &&
        linear(&layer, Rows{1, numbers, numbers, 0, HYPERLINE_ADD, nullptr, y}) == HYPERLINE_BAD_ARGUMENT &&
        linear(&layer, Rows{1, numbers, numbers, 0, HYPERLINE_GELU + 1, numbers, y}) == HYPERLINE_BAD_ARGUMENT &&
        linear(nullptr, rows) == HYPERLINE_BAD_ARGUMENT &&
        hyperline_quantized_linear(&layer, nullptr) == HYPERLINE_BAD_ARGUMENT &&
        hyperline_quantized_block_conv(&layer, &block, 0, 1) == HYPERLINE_BAD_ARGUMENT &&  // weights of a linear layer
        linear(&layer, rows) == HYPERLINE_OK;
    hyperline_quantized_free(weight);
    hyperline_quantized_free(nullptr);
    return refused;
}

}  // namespace

int main(int count, char** arguments) {
    const int cases = count > 1 ? std::atoi(arguments[1]) : 100;
    const Set sets[] = {
#if defined(__x86_64__)
        {hyperline::sse2::quantized, true},
        {hyperline::avx2::quantized, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
        {hyperline::avxvnni::quantized, static_cast<bool>(__builtin_cpu_supports("avxvnni"))},
        {hyperline::avx512vnni::quantized, __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl") &&
                                               __builtin_cpu_supports("avx512dq") &&
                                               __builtin_cpu_supports("avx512bw")},
#else
        {hyperline::neon::quantized, true},
        {hyperline::neondot::quantized, (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0},
#endif
    };
    for (const Set& set : sets) {
        if (!set.supported) {
            std::printf("%s: not on this machine\n", set.kernels.name);
            continue;
        }
        Random random{std::mt19937(1)};
        for (int i = 0; i < cases; i++) {
            if (!linear_agrees(set.kernels, random) || !block_conv_agrees(set.kernels, random)) return 1;
        }
        std::printf("%s: %d random linear layers and convolutions agree\n", set.kernels.name, cases);
    }
    if (!refuses()) {
        std::printf("the C interface takes what it should refuse\n");
        return 1;
    }
    return 0;
}
