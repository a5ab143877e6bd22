// What the forward and the backward scan share: the state and decay rates of four channels, and the staging of steps.
//
// Lanes run over the states of a channel, N of them in one or a few vectors: A, B, C and h all have the states last, so
// that nothing is transposed and 4 to 32 states fill the lanes whatever the number of channels.
#pragma once

#include "kernels.h"
#include "vectors.h"

namespace hyperline::HYPERLINE_ISA {

// Each of four channels has its states in `vectors` vectors. More states than that are scanned group by group.
template <class V_, int vectors_>
struct Kind {
    using V = V_;
    static constexpr int vectors = vectors_;
    static constexpr int states = lanes_of<V> * vectors;
};

template <class V, int vectors>
struct Group {
    V at[block_channels][vectors];
};

HYPERLINE_INLINE int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// Four channels and a group of states: what the inner loops work on.
struct Window {
    int64_t channel, channels;  // first, and how many of the four exist
    int64_t state, states;      // first, and how many of the group's exist
};

// Rows of up to `vectors` vectors in memory that may hold fewer states.
template <class V, int vectors>
HYPERLINE_INLINE void load_row(V (&row)[vectors], const float* from, int64_t count) {
    if (count >= lanes_of<V> * vectors) {
        for (int v = 0; v < vectors; v++) row[v] = load<V>(from + v * lanes_of<V>);
        return;
    }
    for (int v = 0; v < vectors; v++, count -= lanes_of<V>) {
        row[v] = count > 0 ? load_some<V>(from + v * lanes_of<V>, count) : V{};
    }
}

template <class V, int vectors>
HYPERLINE_INLINE void store_row(float* to, const V (&row)[vectors], int64_t count) {
    if (count >= lanes_of<V> * vectors) {
        for (int v = 0; v < vectors; v++) store(to + v * lanes_of<V>, row[v]);
        return;
    }
    for (int v = 0; v < vectors && count > 0; v++, count -= lanes_of<V>) {
        store_some(to + v * lanes_of<V>, row[v], count);
    }
}

// The (channels, states) of a window out of a (D, N) array; what does not exist is zero and stays out of every sum.
template <class V, int vectors>
HYPERLINE_INLINE void load_group(Group<V, vectors>& group, const float* array, const Window& window, int64_t pitch) {
    for (int c = 0; c < block_channels; c++) {
        const int64_t exists = c < window.channels ? window.states : 0;
        load_row(group.at[c], array + (window.channel + (exists ? c : 0)) * pitch + window.state, exists);
    }
}

template <class V, int vectors>
HYPERLINE_INLINE void store_group(float* array, const Group<V, vectors>& group, const Window& window, int64_t pitch) {
    for (int c = 0; c < window.channels; c++) {
        store_row(array + (window.channel + c) * pitch + window.state, group.at[c], window.states);
    }
}

// Decay rates in powers of two: exp(step A) = 2^(step rate).
constexpr float log2_of_e = 1.44269504f;

template <class V, int vectors>
HYPERLINE_INLINE Group<V, vectors> load_rates(const hyperline_scan& scan, const Window& window) {
    Group<V, vectors> rates;
    load_group(rates, scan.A, window, scan.states);
    for (auto& row : rates.at) {
        for (V& rate : row) rate *= log2_of_e;
    }
    return rates;
}

// Up to sixteen channels whose steps are staged together.
struct Span {
    int64_t channel, channels;
    HYPERLINE_INLINE int64_t pitch() const { return (channels + block_channels - 1) / block_channels * block_channels; }
};

HYPERLINE_INLINE Span span_at(const hyperline_scan& scan, int64_t channel) {
    return {channel, least(span_channels, scan.channels - channel)};
}

// A stretch of steps in the order of the scan, channels of a span side by side: step sizes, and drive = step u.
template <int capacity>
struct Stretch {
    int64_t first, count;
    float u[capacity * span_channels];
    float step[capacity * span_channels];
    float drive[capacity * span_channels];
    float mask[capacity];
};

// Visits the rows of a tensor in the order of the scan, from the i-th step taken on.
template <class Number>
struct Rows {
    Number* at;
    int64_t stride;
    template <class Tensor>
    HYPERLINE_INLINE Rows(const hyperline_scan& scan, const Tensor& tensor, int64_t sequence, int64_t i, int64_t column)
        : at(tensor.data + sequence * tensor.sequence_stride +
             (scan.reverse ? scan.length - 1 - i : i) * tensor.step_stride + column),
          stride(scan.reverse ? -tensor.step_stride : tensor.step_stride) {}
    HYPERLINE_INLINE Number* operator[](int64_t i) const { return at + i * stride; }
};

// Gathers `count` steps from the first-th on, and turns delta into step sizes, all lanes busy: about 30 operations a
// channel and step, once for all of its states. `slope`, where wanted, takes the derivative of step by delta.
template <class V, int capacity>
HYPERLINE_INLINE void stage(Stretch<capacity>& stretch, float* slope, const hyperline_scan& scan, int64_t sequence,
                            const Span& span, int64_t first) {
    const int64_t count = stretch.count = least(capacity, scan.length - first), pitch = span.pitch();
    stretch.first = first;
    const Rows<const float> u(scan, scan.u, sequence, first, span.channel);
    const Rows<const float> delta(scan, scan.delta, sequence, first, span.channel);
    const Rows<const float> mask(scan, scan.mask, sequence, first, 0);
    bool all = true, none = true;
    for (int64_t i = 0; i < count; i++) {
        stretch.mask[i] = *mask[i];
        all &= stretch.mask[i] == 1.0f;
        none &= stretch.mask[i] == 0.0f;
    }
    for (int64_t c = 0; c < pitch; c += block_channels) {
        const int64_t exist = span.channels - c;
        const Vector4 bias = load_some<Vector4>(scan.delta_bias + span.channel + c, exist);
        for (int64_t i = 0; i < count; i++) {
            store(stretch.u + i * pitch + c, load_some<Vector4>(u[i] + c, exist));
            store(stretch.step + i * pitch + c, load_some<Vector4>(delta[i] + c, exist) + bias);
        }
    }
    if (none) return;  // whoever holds the state looks at u alone
    const int64_t used = count * pitch, whole = (used + lanes_of<V> - 1) / lanes_of<V> * lanes_of<V>;
    static_assert(capacity * span_channels % lanes_of<V> == 0, "the last vector has room");
    for (int64_t k = used; k < whole; k++) stretch.u[k] = stretch.step[k] = 0.0f;
    for (int64_t k = 0; k < whole; k += lanes_of<V>) {
        V rise;
        const V step = softplus(load<V>(stretch.step + k), slope ? &rise : nullptr);
        store(stretch.step + k, step);
        store(stretch.drive + k, step * load<V>(stretch.u + k));
        if (slope) store(slope + k, rise);
    }
    if (all) return;
    for (int64_t i = 0; i < count; i++) {
        for (int64_t k = i * pitch; k < (i + 1) * pitch; k++) {
            stretch.step[k] *= stretch.mask[i];
            stretch.drive[k] *= stretch.mask[i];
            if (slope) slope[k] *= stretch.mask[i];
        }
    }
}

// One step of the recurrence for one channel: 15 operations a vector of states, 12 of them the exponential.
template <class V, int vectors>
HYPERLINE_INLINE void advance(V (&h)[vectors], V (&decay)[vectors], const V (&rate)[vectors], const V (&B)[vectors],
                              float step, float drive) {
    for (int v = 0; v < vectors; v++) {
        decay[v] = exp2(rate[v] * step);
        h[v] = decay[v] * h[v] + drive * B[v];
    }
}

// Calls body(window) for the blocks of a span, and each of its groups of states.
template <class Kind, class Body>
HYPERLINE_INLINE void for_windows(const hyperline_scan& scan, const Span& span, const Body& body) {
    for (int64_t c = 0; c < span.channels; c += block_channels) {
        for (int64_t state = 0; state < scan.states; state += Kind::states) {
            body(Window{span.channel + c, least(block_channels, span.channels - c), state,
                        least(Kind::states, scan.states - state)});
        }
    }
}

// Runs `body` with the vector type and count that suit a number of states: no lane idle for 4, 8, 16 and 32.
template <class Body>
HYPERLINE_INLINE auto with_vectors(int64_t states, const Body& body) {
#if HYPERLINE_LANES == 16
    if (states > 16) return body(Kind<Vector<16>, 2>{});
    if (states > 8) return body(Kind<Vector<16>, 1>{});
#elif HYPERLINE_LANES == 8
    if (states > 8) return body(Kind<Vector<8>, 2>{});
#else
    if (states > 8) return body(Kind<Vector<4>, 4>{});
    if (states > 4) return body(Kind<Vector<4>, 2>{});
#endif
#if HYPERLINE_LANES >= 8
    if (states > 4) return body(Kind<Vector<8>, 1>{});
#endif
    return body(Kind<Vector<4>, 1>{});
}

void scan_forward(const ForwardCall& call, int64_t first, int64_t last);
void scan_backward(const BackwardCall& call, int64_t part, float* workspace);
int64_t scan_backward_workspace(const hyperline_scan& scan);

}  // namespace hyperline::HYPERLINE_ISA
