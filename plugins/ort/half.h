// FP16 numbers to float32 and back, rounded to the nearest, ties to even.
//
// A number takes 2 bytes on one side and 4 on the other: both loops run at the speed of memory where the CPU converts
// in hardware (x86: F16C, since 2012; 64-bit ARM: always).
#ifndef HYPERLINE_ORT_HALF_H
#define HYPERLINE_ORT_HALF_H

#include <algorithm>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "op.h"

namespace hyperline {

#if defined(__aarch64__)

using Half = __fp16;

inline void ToFloat(const Half* from, int64_t count, float* to) {
    std::copy_n(from, count, to);
}

inline void ToHalf(const float* from, int64_t count, Half* to) {
    std::copy_n(from, count, to);
}

#else

using Half = Ort::Float16_t;

#if defined(__x86_64__)
// Eight at a time; return how many, the rest is the caller's.
__attribute__((target("avx,f16c"))) inline int64_t ToFloatF16c(const Half* from, int64_t count, float* to) {
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
    return i;
}

__attribute__((target("avx,f16c"))) inline int64_t ToHalfF16c(const float* from, int64_t count, Half* to) {
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    return i;
}

// Every CPU with AVX2 has F16C, for which older compilers cannot ask.
inline bool HasF16c() {
    static const bool has = __builtin_cpu_supports("avx2");
    return has;
}
#else
inline int64_t ToFloatF16c(const Half*, int64_t, float*) {
    return 0;
}
inline int64_t ToHalfF16c(const float*, int64_t, Half*) {
    return 0;
}
inline bool HasF16c() {
    return false;
}
#endif

inline void ToFloat(const Half* from, int64_t count, float* to) {
    for (int64_t i = HasF16c() ? ToFloatF16c(from, count, to) : 0; i < count; ++i) to[i] = from[i].ToFloat();
}

inline void ToHalf(const float* from, int64_t count, Half* to) {
    for (int64_t i = HasF16c() ? ToHalfF16c(from, count, to) : 0; i < count; ++i) to[i] = Half(from[i]);
}

#endif

}  // namespace hyperline

#endif
