// The kernels of every instruction set that this machine has, against plain loops in double precision, on random
// shapes and views. Arrays are exactly as large as they must be, so that the address sanitizer sees a step too far.
//
// Prints one line an instruction set. Exit code 1 and the first difference where something is wrong.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "hyperline/fused.h"
#include "hyperline/ops.h"
#include "kernels.h"

#if defined(__x86_64__)
#define HYPERLINE_SETS {&hyperline::sse2::kernels, &hyperline::avx2::kernels, &hyperline::avx512::kernels}
#else
#define HYPERLINE_SETS {&hyperline::neon::kernels}
#endif

namespace {

using Numbers = std::vector<double>;

// Memory of its own for every array, so that there is nothing readable beside it.
struct Array {
    std::unique_ptr<float[]> data;
    int64_t size;
    explicit Array(int64_t n) : data(new float[static_cast<size_t>(n)]), size(n) {}
};

struct Random {
    std::mt19937 bits;
    int64_t integer(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(bits); }
    bool coin() { return integer(0, 1) == 1; }
    Array numbers(int64_t n, double mean = 0.0, double deviation = 1.0) {
        Array array(n);
        std::normal_distribution<double> draw(mean, deviation);
        for (int64_t i = 0; i < n; i++) array.data[i] = static_cast<float>(draw(bits));
        return array;
    }
};

// A random scan that owns its memory: (S, L, X) tensors sequence-major or step-major, one h0 or many, a mask or none.
struct Case {
    int64_t S, L, D, N;
    bool step_major;
    Array u, delta, B, C, A, skip, bias, h0, mask, gy;
    hyperline_scan scan;

    explicit Case(Random& random)
        : S(random.integer(1, 5)),
          L(random.coin() ? random.integer(1, 10) : random.integer(60, 270)),
          D(random.integer(1, 35)),
          N(random.coin() ? int64_t{4} << random.integer(0, 3) : random.integer(1, 36)),
          step_major(random.coin()),
          u(random.numbers(S * L * D)),
          delta(random.numbers(S * L * D, -2.0, 2.0)),
          B(random.numbers(S * L * N)),
          C(random.numbers(S * L * N)),
          A(random.numbers(D * N)),
          skip(random.numbers(D)),
          bias(random.numbers(D)),
          h0(random.numbers((random.coin() ? S : 1) * D * N)),
          mask(random.numbers(random.coin() ? S * L : 1)),
          gy(random.numbers(S * L * D)) {
        for (int64_t i = 0; i < A.size; i++) A.data[i] = -std::exp(A.data[i]);
        for (int64_t i = 0; i < mask.size; i++) mask.data[i] = mask.size == 1 || mask.data[i] > -0.5f ? 1.0f : 0.0f;
        const bool whole = mask.size > 1;
        scan = {S,
                L,
                D,
                N,
                random.coin(),
                1,
                rows(u, D),
                rows(delta, D),
                rows(B, N),
                rows(C, N),
                {mask.data.get(), whole ? rows(mask, 1).sequence_stride : 0, whole ? rows(mask, 1).step_stride : 0},
                A.data.get(),
                skip.data.get(),
                bias.data.get(),
                h0.data.get(),
                h0.size == D * N ? 0 : D * N};
    }

    template <class Rows = hyperline_input>
    Rows rows(const Array& array, int64_t width) const {
        return step_major ? Rows{array.data.get(), width, S * width} : Rows{array.data.get(), L * width, width};
    }
    int64_t at(int64_t s, int64_t t, int64_t width) const { return (step_major ? t * S + s : s * L + t) * width; }
};

struct Expected {
    Numbers y, h, u, delta, B, C, A, D, bias;
};

// The recurrence and its adjoint as they stand on paper, every state kept.
Expected plain_loops(const Case& c) {
    const int64_t S = c.S, L = c.L, D = c.D, N = c.N;
    Expected e{Numbers(S * L * D), Numbers(S * D * N), Numbers(S * L * D), Numbers(S * L * D), Numbers(S * L * N),
               Numbers(S * L * N), Numbers(D * N),     Numbers(D),         Numbers(D)};
    for (int64_t s = 0; s < S; s++) {
        for (int64_t d = 0; d < D; d++) {
            Numbers states((L + 1) * N), decays(L * N), steps(L), slopes(L);
            for (int64_t n = 0; n < N; n++) states[n] = c.scan.h0[s * c.scan.h0_sequence_stride + d * N + n];
            for (int64_t i = 0; i < L; i++) {
                const int64_t t = c.scan.reverse ? L - 1 - i : i, k = c.at(s, t, D) + d, row = c.at(s, t, N);
                const double mask = c.mask.data[c.mask.size == 1 ? 0 : c.at(s, t, 1)];
                const double raw = double{c.delta.data[k]} + c.bias.data[d];
                steps[i] = (std::max(raw, 0.0) + std::log1p(std::exp(-std::abs(raw)))) * mask;
                slopes[i] = mask / (1.0 + std::exp(-raw));
                double y = double{c.skip.data[d]} * c.u.data[k];
                for (int64_t n = 0; n < N; n++) {
                    decays[i * N + n] = std::exp(steps[i] * c.A.data[d * N + n]);
                    double& h = states[(i + 1) * N + n];
                    h = decays[i * N + n] * states[i * N + n] + steps[i] * c.u.data[k] * c.B.data[row + n];
                    y += h * c.C.data[row + n];
                }
                e.y[k] = y;
            }
            std::copy_n(states.end() - N, N, e.h.begin() + (s * D + d) * N);
            Numbers g(N);
            for (int64_t i = L - 1; i >= 0; i--) {
                const int64_t t = c.scan.reverse ? L - 1 - i : i, k = c.at(s, t, D) + d, row = c.at(s, t, N);
                const double gy = c.gy.data[k], u = c.u.data[k];
                double by_input = 0.0, by_rate = 0.0;
                for (int64_t n = 0; n < N; n++) {
                    e.C[row + n] += gy * states[(i + 1) * N + n];
                    g[n] += gy * c.C.data[row + n];
                    e.B[row + n] += g[n] * steps[i] * u;
                    by_input += g[n] * c.B.data[row + n];
                    g[n] *= decays[i * N + n];
                    by_rate += g[n] * states[i * N + n] * c.A.data[d * N + n];
                    e.A[d * N + n] += g[n] * states[i * N + n] * steps[i];
                }
                e.u[k] = by_input * steps[i] + c.skip.data[d] * gy;
                e.delta[k] = slopes[i] * (by_input * u + by_rate);
                e.D[d] += gy * u;
                e.bias[d] += e.delta[k];
            }
        }
    }
    return e;
}

bool same(const char* set, const char* name, const Case& c, const Array& got, const Numbers& expected) {
    double scale = 1.0;
    for (double number : expected) scale = std::max(scale, std::abs(number));
    for (size_t i = 0; i < expected.size(); i++) {
        const double error = std::abs(got.data[i] - expected[i]);
        if (error <= 1e-5 * std::abs(expected[i]) + 3e-6 * scale) continue;
        std::printf("%s: %s[%zu] is %.9g, not %.9g; S %lld L %lld D %lld N %lld reverse %d\n", set, name, i,
                    static_cast<double>(got.data[i]), expected[i], static_cast<long long>(c.S),
                    static_cast<long long>(c.L), static_cast<long long>(c.D), static_cast<long long>(c.N),
                    c.scan.reverse);
        return false;
    }
    return true;
}

bool check(const hyperline::Kernels& kernels, const Case& c, const Expected& e) {
    const int64_t S = c.S, L = c.L, D = c.D, N = c.N;
    Array y(S * L * D), h(S * D * N);
    const int64_t spans = (D + hyperline::span_channels - 1) / hyperline::span_channels;
    kernels.forward({c.scan, c.rows<hyperline_output>(y, D), h.data.get(), spans}, 0, S * spans);
    bool good = same(kernels.name, "y", c, y, e.y) && same(kernels.name, "h", c, h, e.h);

    Array u(S * L * D), delta(S * L * D), B(S * L * N), C(S * L * N), sums(D * N + 2 * D);
    std::fill_n(sums.data.get(), sums.size, 0.0f);
    Array workspace(kernels.backward_workspace(c.scan));
    const hyperline_scan_gradients into = {c.rows<hyperline_output>(u, D),
                                           c.rows<hyperline_output>(delta, D),
                                           c.rows<hyperline_output>(B, N),
                                           c.rows<hyperline_output>(C, N),
                                           nullptr,
                                           nullptr,
                                           nullptr};
    kernels.backward({c.scan, c.rows(c.gy, D), into, 1, sums.data.get(), nullptr}, 0, workspace.data.get());
    Numbers expected_sums = e.A;
    expected_sums.insert(expected_sums.end(), e.D.begin(), e.D.end());
    expected_sums.insert(expected_sums.end(), e.bias.begin(), e.bias.end());
    good = good && same(kernels.name, "gradient of u", c, u, e.u);
    good = good && same(kernels.name, "gradient of delta", c, delta, e.delta);
    good = good && same(kernels.name, "gradient of B", c, B, e.B);
    good = good && same(kernels.name, "gradient of C", c, C, e.C);
    return good && same(kernels.name, "gradients of A, D, delta_bias", c, sums, expected_sums);
}

// exp(A step) alone: with h0 = 1 and u = 0, h is the decay. In units in the last place, beyond what float32 does to the
// exponent before it gets there: log2(e) is off by 0.22 * 2^-24, and its product with A is rounded by up to 2^-24.
double worst_decay_error(const hyperline::Kernels& kernels) {
    double worst = 0.0;
    const float one = 1.0f, none = 0.0f, raw = 16.0f;  // softplus(16) = 16 in float32
    for (int64_t i = 1; i < 200000; i++) {
        const float exponent = -static_cast<float>(87.0 * std::pow(i / 2e5, 3.0)), A = exponent / raw;
        float y, h;
        const hyperline_scan scan = {
            1,  1,     1,     1,    0, 1, {&none, 1, 1}, {&raw, 1, 1}, {&none, 1, 1}, {&none, 1, 1}, {&one, 1, 1},
            &A, &none, &none, &one, 1};
        kernels.forward({scan, {&y, 1, 1}, &h, 1}, 0, 1);
        const double exact = std::exp(double{exponent});
        const double unit = std::nextafter(static_cast<float>(exact), 2.0f) - static_cast<float>(exact);
        const double inevitable = 1.22 * std::ldexp(1.0, -24) * std::abs(exponent) * exact;
        worst = std::max(worst, (std::abs(h - exact) - inevitable) / unit);
    }
    return worst;
}

bool near(const char* set, const char* name, const Array& got, const Numbers& expected, double bar) {
    for (size_t i = 0; i < expected.size(); i++) {
        if (std::abs(got.data[i] - expected[i]) <= bar * (1.0 + std::abs(expected[i]))) continue;
        std::printf("%s: %s[%zu] is %.9g, not %.9g\n", set, name, i, static_cast<double>(got.data[i]), expected[i]);
        return false;
    }
    return true;
}

double silu(double v) {
    return v / (1.0 + std::exp(-v));
}

bool check_norm(const hyperline::Kernels& kernels, Random& random, int32_t after) {
    const int64_t R = random.integer(1, 11), C = random.integer(2, 70);
    const bool add = random.coin();
    const Array x = random.numbers(R * C, 3.0), addend = random.numbers(R * C), scale = random.numbers(C);
    const Array bias = random.numbers(C), gate = random.numbers(R * C, 0.0, 5.0), keep = random.numbers(R);
    Array y(R * C);
    for (int64_t r = 0; r < R; r++) keep.data[r] = keep.data[r] > -0.5f ? 1.0f : 0.0f;
    kernels.norm({R, C, x.data.get(), add ? addend.data.get() : nullptr, scale.data.get(), bias.data.get(),
                  keep.data.get(), gate.data.get(), 1e-2f, after, y.data.get()});
    Numbers expected(R * C);
    for (int64_t r = 0; r < R; r++) {
        const auto value = [&](int64_t c) { return x.data[r * C + c] + (add ? double{addend.data[r * C + c]} : 0.0); };
        double mean = 0.0, variance = 0.0;
        for (int64_t c = 0; c < C; c++) mean += value(c) / static_cast<double>(C);
        for (int64_t c = 0; c < C; c++) variance += (value(c) - mean) * (value(c) - mean) / static_cast<double>(C);
        for (int64_t c = 0; c < C; c++) {
            double& v = expected[r * C + c];
            v = (value(c) - mean) / std::sqrt(variance + 1e-2) * scale.data[c] + bias.data[c];
            if (after == HYPERLINE_NORM_RELU) v = keep.data[r] == 0.0f ? 0.0 : std::max(v, 0.0);
            if (after == HYPERLINE_NORM_SILU) v = silu(v);
            if (after == HYPERLINE_NORM_GATED) v *= silu(gate.data[r * C + c]);
        }
    }
    return near(kernels.name, "norm", y, expected, 1e-4);
}

bool check_centred_linear(const hyperline::Kernels& kernels, Random& random) {
    const int64_t R = random.integer(1, 60), I = random.integer(1, 40), O = random.integer(1, 150);
    const Array x = random.numbers(R * I), mean = random.numbers(I), weight = random.numbers(I * O);
    const Array bias = random.numbers(O);
    Array y(R * O), workspace(kernels.centred_workspace(I));
    kernels.centred_linear({R, I, O, x.data.get(), mean.data.get(), weight.data.get(), bias.data.get(), y.data.get()},
                           workspace.data.get());
    Numbers expected(R * O);
    for (int64_t r = 0; r < R; r++) {
        for (int64_t o = 0; o < O; o++) {
            double& v = expected[r * O + o] = bias.data[o];
            for (int64_t i = 0; i < I; i++) v += (double{x.data[r * I + i]} - mean.data[i]) * weight.data[i * O + o];
        }
    }
    return near(kernels.name, "first product", y, expected, 1e-4);
}

bool check_pool(const hyperline::Kernels& kernels, Random& random) {
    const int64_t K = 2 * random.integer(1, 3), W = 2 * random.integer(1, 6), C = random.integer(1, 40);
    const Array x = random.numbers(K * W * C), mask = random.numbers(K * W);
    for (int64_t p = 0; p < K * W; p++) {
        mask.data[p] = mask.data[p] > 0.0f ? 1.0f : 0.0f;
        for (int64_t c = 0; c < C; c++) x.data[p * C + c] *= mask.data[p];
    }
    Array y(K / 2 * (W / 2) * C), coarse(K / 2 * (W / 2));
    kernels.pool({K, W, C, x.data.get(), mask.data.get(), y.data.get(), coarse.data.get()}, 0, K / 2);
    Numbers means(y.size), any(coarse.size);
    for (int64_t cell = 0; cell < coarse.size; cell++) {
        const int64_t first = cell / (W / 2) * 2 * W + cell % (W / 2) * 2;
        double count = 0.0;
        for (int64_t p : {first, first + 1, first + W, first + W + 1}) {
            count += mask.data[p];
            for (int64_t c = 0; c < C; c++) means[cell * C + c] += x.data[p * C + c];
        }
        for (int64_t c = 0; c < C; c++) means[cell * C + c] /= std::max(count, 1.0);
        any[cell] = count > 0.0 ? 1.0 : 0.0;
    }
    return near(kernels.name, "mean of a cell", y, means, 1e-6) && near(kernels.name, "mask", coarse, any, 0.0);
}

bool check_decide(const hyperline::Kernels& kernels, Random& random) {
    const int64_t P = random.integer(1, 9), classes = random.coin() ? random.integer(1, 20) : random.integer(1, 255);
    const Array logits = random.numbers(P * classes, 0.0, 3.0);
    for (int64_t i = 0; i < logits.size; i++) logits.data[i] = std::round(logits.data[i]);  // equal ones are common
    const std::unique_ptr<uint8_t[]> valid(new uint8_t[P]), labels(new uint8_t[P]);
    for (int64_t p = 0; p < P; p++) valid[p] = random.coin();
    Array confidence(P), uncertainty(P);
    kernels.decide(
        {P, classes, logits.data.get(), valid.get(), labels.get(), confidence.data.get(), uncertainty.data.get()});
    Numbers expected(P), entropies(P);
    for (int64_t p = 0; p < P; p++) {
        const float* const row = logits.data.get() + p * classes;
        const float* const best = std::max_element(row, row + classes);
        double sum = 0.0;
        for (int64_t c = 0; c < classes; c++) sum += std::exp(double{row[c]} - *best);
        for (int64_t c = 0; c < classes; c++) {
            const double share = std::exp(double{row[c]} - *best) / sum;
            entropies[p] -= valid[p] ? share * std::log(share) / std::log(std::max(double(classes), 2.0)) : 0.0;
        }
        expected[p] = valid[p] ? 1.0 / sum : 0.0;
        if (labels[p] == (valid[p] ? best - row + 1 : 0)) continue;
        std::printf("%s: class %d of %lld\n", kernels.name, labels[p], static_cast<long long>(classes));
        return false;
    }
    return near(kernels.name, "confidence", confidence, expected, 1e-5) &&
           near(kernels.name, "uncertainty", uncertainty, entropies, 1e-6);
}

bool check_fused(const hyperline::Kernels& kernels, Random& random) {
    for (int32_t after = HYPERLINE_NORM_AS_IS; after <= HYPERLINE_NORM_GATED; after++) {
        if (!check_norm(kernels, random, after)) return false;
    }
    return check_centred_linear(kernels, random) && check_pool(kernels, random) && check_decide(kernels, random);
}

bool supported(const hyperline::Kernels* kernels) {
#if defined(__x86_64__)
    if (kernels == &hyperline::avx512::kernels) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq");
    }
    if (kernels == &hyperline::avx2::kernels) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return kernels != nullptr;
}

}  // namespace

int main(int count, char** arguments) {
    const int cases = count > 1 ? std::atoi(arguments[1]) : 200;
    for (const hyperline::Kernels* kernels : HYPERLINE_SETS) {
        if (!supported(kernels)) {
            std::printf("%s: not on this machine\n", kernels->name);
            continue;
        }
        Random random{std::mt19937(1)};
        for (int i = 0; i < cases; i++) {
            const Case c(random);
            if (!check(*kernels, c, plain_loops(c)) || !check_fused(*kernels, random)) return 1;
        }
        const double error = worst_decay_error(*kernels);
        if (!(error <= 2.0)) {
            std::printf("%s: the exponential is off by %.2f units in the last place\n", kernels->name, error);
            return 1;
        }
        std::printf(
            "%s: %d random scans with their gradients and fused functions agree; exponential within %.2f units\n",
            kernels->name, cases, error);
    }

    // Through the C interface: threads, and what it refuses.
    Random random{std::mt19937(2)};
    Case c(random);
    c.scan.threads = 3;
    Array y(c.S * c.L * c.D), h(c.S * c.D * c.N);
    const hyperline_output to = c.rows<hyperline_output>(y, c.D);
    if (hyperline_selective_scan(&c.scan, to, h.data.get()) != HYPERLINE_OK) return 1;
    if (!same("interface", "y", c, y, plain_loops(c).y)) return 1;
    c.scan.states = 0;
    if (hyperline_selective_scan(&c.scan, to, h.data.get()) != HYPERLINE_BAD_ARGUMENT) return 1;
    if (hyperline_selective_scan(nullptr, to, h.data.get()) != HYPERLINE_BAD_ARGUMENT) return 1;
    const float logits[] = {1.0f, 3.0f, 3.0f, 2.0f};
    float weights[4], active[4];
    if (hyperline_expert_gate(1, 4, 5, logits, weights, active) != HYPERLINE_BAD_ARGUMENT) return 1;
    if (hyperline_expert_gate(1, 4, 1, logits, weights, active) != HYPERLINE_OK) return 1;
    if (active[1] != 1.0f || active[2] != 0.0f) {
        std::printf("the gate gives a tie to the higher index\n");
        return 1;
    }
    return 0;
}
