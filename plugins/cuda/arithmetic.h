// Elementary functions and loads of the CUDA kernels, in C++ that a host compiler takes too.
//
// Every operation is an IEEE one and every fused multiply-add is written out, so the float32 kernels give the same bits
// on any GPU and on the host (the build forbids the compilers to fuse more): what tests/gpu/test_emulation.py proves on
// a CPU holds for the GPU's arithmetic.

#ifndef HYPERLINE_PLUGINS_CUDA_ARITHMETIC_H
#define HYPERLINE_PLUGINS_CUDA_ARITHMETIC_H

#include <cmath>
#include <cstdint>
#include <cstring>

#if __has_include(<cuda_fp16.h>)
#include <cuda_fp16.h>
#define HYPERLINE_HAS_HALF 1
#else
#define HYPERLINE_HAS_HALF 0
#endif

#ifdef __CUDACC__
#define HYPERLINE_HD __host__ __device__ __forceinline__
#else
#define HYPERLINE_HD inline
#endif

namespace hyperline {

constexpr float kLog2E = 1.44269504f;

HYPERLINE_HD float FromBits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

HYPERLINE_HD uint32_t ToBits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// 2^x within 1 ulp, exactly 1 at 0; 0 below 2^-127. 15 operations of the FMA and integer pipes: on every GPU since
// Turing that is about what the special-function unit takes for its own ex2 (16 a clock and multiprocessor against
// 128), whose 2 ulp would add up along a slow decay over a thousand lines.
HYPERLINE_HD float Exp2(float x) {
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
    x = fminf(fmaxf(x, -127.0f), 128.0f);
    const float rounded = x + kRound;
    const float f = x - (rounded - kRound);  // [-0.5, 0.5]
    // (2^f - 1) / f, minimax of degree 5; relative error of 2^f at most 4e-9
    float p = 1.546973521e-4f;
    p = fmaf(p, f, 1.339086685e-3f);
    p = fmaf(p, f, 9.618030771e-3f);
    p = fmaf(p, f, 5.550357106e-2f);
    p = fmaf(p, f, 2.402265108e-1f);
    p = fmaf(p, f, 6.931471880e-1f);
    p = fmaf(p, f, 1.0f);
    return p * FromBits((ToBits(rounded) << 23) + 0x3f800000u);
}

// The factor by which a step scales the state, 2^x: with the precision that the type of the inputs deserves.
template <typename T>
HYPERLINE_HD float Decay(float x) {
    return Exp2(x);
}

// max(x, 0) + log1p(exp(-|x|)), with log1p(z) = 2 atanh(z / (2 + z)): small steps keep all their digits.
HYPERLINE_HD float Softplus(float x) {
    const float z = Exp2(fabsf(x) * -kLog2E);  // (0, 1]
    const float s = z / (2.0f + z);            // (0, 1/3]
    const float square = s * s;
    // (atanh(s) / s - 1) / s^2, minimax of degree 3 in s^2; relative error of atanh(s) at most 2e-8
    float p = 1.344180463e-1f;
    p = fmaf(p, square, 1.411563978e-1f);
    p = fmaf(p, square, 2.000389118e-1f);
    p = fmaf(p, square, 3.333331949e-1f);
    const float half = fmaf(s * square, p, s);
    return fmaf(2.0f, half, fmaxf(x, 0.0f));
}

HYPERLINE_HD float ToFloat(float value) {
    return value;
}
HYPERLINE_HD void Store(float value, float* to) {
    *to = value;
}

#if HYPERLINE_HAS_HALF
HYPERLINE_HD float ToFloat(__half value) {
    return __half2float(value);
}
HYPERLINE_HD void Store(float value, __half* to) {
    *to = __float2half_rn(value);
}

// FP16 inputs are known to 3 digits: the special-function unit's 2 ulp are nothing beside them.
template <>
HYPERLINE_HD float Decay<__half>(float x) {
#ifdef __CUDA_ARCH__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}
#endif

// At most 16 bytes, one load instruction.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Packet {
    T value[kCount];
};

// Reads `states` numbers into registers for N; the rest become 0. `vectors` says that rows are N long and aligned to
// packets.
template <int N, typename T>
HYPERLINE_HD void LoadRow(const T* row, int states, bool vectors, float (&to)[N]) {
    constexpr int kCount = 16 / sizeof(T) < N ? 16 / sizeof(T) : N;
    if (vectors) {
#pragma unroll
        for (int at = 0; at < N; at += kCount) {
            const Packet<T, kCount> packet = *reinterpret_cast<const Packet<T, kCount>*>(row + at);
#pragma unroll
            for (int i = 0; i < kCount; ++i) to[at + i] = ToFloat(packet.value[i]);
        }
    } else {
#pragma unroll
        for (int n = 0; n < N; ++n) to[n] = n < states ? ToFloat(row[n]) : 0.0f;
    }
}

template <int N>
HYPERLINE_HD void StoreRow(const float (&from)[N], int states, bool vectors, float* row) {
    if (vectors) {
#pragma unroll
        for (int at = 0; at < N; at += 4) {
            *reinterpret_cast<Packet<float, 4>*>(row + at) = {from[at], from[at + 1], from[at + 2], from[at + 3]};
        }
    } else {
#pragma unroll
        for (int n = 0; n < N; ++n) {
            if (n < states) row[n] = from[n];
        }
    }
}

}  // namespace hyperline

#endif
