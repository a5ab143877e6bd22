// SelectiveScan, backward: gradients of a loss of y by u, delta, A, B, C, D and delta_bias.
//
// With g_t the gradient by h_t, and e_t = exp(step_t A) the decay:
//
//     g_t = C_t gy_t + e_{t+1} g_{t+1}
//     dC_t = sum_d gy_t h_t            dB_t = sum_d g_t step_t u_t          du_t = step_t sum_n g_t B_t + D gy_t
//     dstep_t = sum_n (g_t B_t u_t + g_t e_t h_{t-1} A)                     dA = sum_{s,t} g_t e_t h_{t-1} step_t
//
// The states are not kept by the forward pass but computed again, in stretches whose states and decays fit the second
// level of cache; a scan of more steps than a stretch first goes through once to note the state before each stretch.
// Per state and step about 15 operations on a lane to recompute and 15 to go back.

#include "scan.h"

namespace hyperline::HYPERLINE_ISA {
namespace {

constexpr int capacity = 128;  // steps of a stretch: with 16 states 32 KiB each for states and decays

// The sums over all steps of a part.
struct Sums {
    float *A, *D, *delta_bias;
};

// A worker's memory: lists of groups, the states of four channels each.
struct Workspace {
    float* states;       // (capacity) before each step of a window
    float* decays;       // (capacity)
    float* carried;      // (windows of a span) gradient by the state, between stretches
    float* checkpoints;  // (stretches, windows of a span) state before each stretch
};

HYPERLINE_INLINE int64_t stretches(const hyperline_scan& scan) {
    return (scan.length + capacity - 1) / capacity;
}

// Windows of a full span.
template <class Kind>
HYPERLINE_INLINE int64_t windows(const hyperline_scan& scan) {
    return span_channels / block_channels * ((scan.states + Kind::states - 1) / Kind::states);
}

template <class Kind>
constexpr int64_t group_floats = block_channels * Kind::states;

template <class V, int vectors>
HYPERLINE_INLINE void save(float* to, int64_t index, const Group<V, vectors>& group) {
    __builtin_memcpy(to + index * group_floats<Kind<V, vectors>>, &group, sizeof group);
}

template <class V, int vectors>
HYPERLINE_INLINE void restore(Group<V, vectors>& group, const float* from, int64_t index) {
    __builtin_memcpy(&group, from + index * group_floats<Kind<V, vectors>>, sizeof group);
}

// Takes h through a staged stretch. `keep` leaves the state before, and the decay of, every step in the workspace.
template <bool keep, class V, int vectors>
HYPERLINE_INLINE void recompute(Group<V, vectors>& h, const hyperline_scan& scan, int64_t sequence, const Span& span,
                                const Window& window, const Stretch<capacity>& stretch, const Workspace& workspace) {
    const int64_t pitch = span.pitch(), offset = window.channel - span.channel;
    const Rows<const float> B_rows(scan, scan.B, sequence, stretch.first, window.state);
    const Group<V, vectors> rates = load_rates<V, vectors>(scan, window);
    for (int64_t i = 0; i < stretch.count; i++) {
        const int64_t k = i * pitch + offset;
        if (keep) save(workspace.states, i, h);
        if (stretch.mask[i] == 0.0f) continue;
        V B[vectors];
        load_row(B, B_rows[i], window.states);
        Group<V, vectors> decay;
        for (int c = 0; c < block_channels; c++) {
            advance(h.at[c], decay.at[c], rates.at[c], B, stretch.step[k + c], stretch.drive[k + c]);
        }
        if (keep) save(workspace.decays, i, decay);
    }
}

// Adds to a row of an output, or begins it.
template <class V, int vectors>
HYPERLINE_INLINE void add_row(float* to, V (&values)[vectors], int64_t count, bool begin) {
    if (!begin) {
        V before[vectors];
        load_row(before, to, count);
        for (int v = 0; v < vectors; v++) values[v] += before[v];
    }
    store_row(to, values, count);
}

template <class V, int vectors>
HYPERLINE_INLINE V dot(const V (&a)[vectors], const V (&b)[vectors]) {
    V sum = a[0] * b[0];
    for (int v = 1; v < vectors; v++) sum += a[v] * b[v];
    return sum;
}

// One stretch of one sequence, for four channels and a group of states: h is the state before it, `gradient` that by
// the state after it, and at the end by the state before it.
template <class V, int vectors>
HYPERLINE_INLINE void scan_window(const BackwardCall& call, int64_t sequence, const Span& span, const Window& window,
                                  const Stretch<capacity>& stretch, const float* slope, const Workspace& workspace,
                                  Group<V, vectors>& h, Group<V, vectors>& gradient, const Sums& sums_of_part) {
    const hyperline_scan& scan = call.scan;
    const bool first_channels = window.channel == 0, first_states = window.state == 0;
    const int64_t pitch = span.pitch(), offset = window.channel - span.channel, first = stretch.first;
    const Rows<const float> B_rows(scan, scan.B, sequence, first, window.state);
    const Rows<const float> C_rows(scan, scan.C, sequence, first, window.state);
    const Rows<const float> gy_rows(scan, call.grad_y, sequence, first, window.channel);
    const Rows<float> for_B_rows(scan, call.gradients.B, sequence, first, window.state);
    const Rows<float> for_C_rows(scan, call.gradients.C, sequence, first, window.state);
    const Rows<float> for_u_rows(scan, call.gradients.u, sequence, first, window.channel);
    const Rows<float> for_delta_rows(scan, call.gradients.delta, sequence, first, window.channel);
    const Vector4 D = load_some<Vector4>(scan.D + window.channel, window.channels);
    const Group<V, vectors> rates = load_rates<V, vectors>(scan, window);
    Group<V, vectors> for_A = {};
    Vector4 for_D[1] = {}, for_bias[1] = {};

    recompute<true>(h, scan, sequence, span, window, stretch, workspace);
    for (int64_t i = stretch.count - 1; i >= 0; i--) {
        const float *step = stretch.step + i * pitch + offset, *drive = stretch.drive + i * pitch + offset;
        const Vector4 gy = load_some<Vector4>(gy_rows[i], window.channels);
        V C[vectors], for_C[vectors] = {}, for_B[vectors] = {};
        load_row(C, C_rows[i], window.states);
        for (int c = 0; c < block_channels; c++) {
            for (int v = 0; v < vectors; v++) {
                for_C[v] += gy[c] * h.at[c][v];
                gradient.at[c][v] += gy[c] * C[v];
            }
        }

        // A masked step gives and takes nothing, and its step size and slope may never have been staged.
        const Vector4 u = load<Vector4>(stretch.u + i * pitch + offset);
        Vector4 for_u[1] = {}, for_delta[1] = {};
        if (stretch.mask[i] != 0.0f) {
            V B[vectors], by_input[block_channels], by_rate[block_channels];
            load_row(B, B_rows[i], window.states);
            Group<V, vectors> decay;
            restore(decay, workspace.decays, i);
            restore(h, workspace.states, i);
            for (int c = 0; c < block_channels; c++) {
                by_input[c] = dot(gradient.at[c], B);
                V product[vectors];
                for (int v = 0; v < vectors; v++) {
                    for_B[v] += drive[c] * gradient.at[c][v];
                    gradient.at[c][v] *= decay.at[c][v];
                    product[v] = gradient.at[c][v] * h.at[c][v];
                    for_A.at[c][v] += step[c] * product[v];
                }
                by_rate[c] = dot(product, rates.at[c]);
            }
            const Vector4 from_input = sums(by_input[0], by_input[1], by_input[2], by_input[3]);
            const Vector4 from_rate = sums(by_rate[0], by_rate[1], by_rate[2], by_rate[3]) * (1 / log2_of_e);
            for_u[0] = load<Vector4>(step) * from_input;
            for_delta[0] = load<Vector4>(slope + i * pitch + offset) * (u * from_input + from_rate);
        }

        add_row(for_C_rows[i], for_C, window.states, first_channels);
        add_row(for_B_rows[i], for_B, window.states, first_channels);
        for_bias[0] += for_delta[0];
        if (first_states) {
            for_u[0] += D * gy;
            for_D[0] += gy * u;
        }
        add_row(for_u_rows[i], for_u, window.channels, first_states);
        add_row(for_delta_rows[i], for_delta, window.channels, first_states);
    }

    for (int c = 0; c < window.channels; c++) {
        float* row = sums_of_part.A + (window.channel + c) * scan.states + window.state;
        add_row(row, for_A.at[c], window.states, false);
    }
    add_row(sums_of_part.D + window.channel, for_D, window.channels, false);
    add_row(sums_of_part.delta_bias + window.channel, for_bias, window.channels, false);
}

template <class Kind>
HYPERLINE_INLINE void scan_span(const BackwardCall& call, int64_t sequence, const Span& span,
                                const Workspace& workspace, const Sums& sums_of_part) {
    const hyperline_scan& scan = call.scan;
    using State = Group<typename Kind::V, Kind::vectors>;
    const float* h0 = scan.h0 + sequence * scan.h0_sequence_stride;
    const int64_t last = stretches(scan) - 1, each = windows<Kind>(scan);
    Stretch<capacity> stretch;
    float slope[capacity * span_channels];

    int64_t index = 0;
    for_windows<Kind>(scan, span, [&](const Window& window) {
        State h, none = {};
        load_group(h, h0, window, scan.states);
        save(workspace.checkpoints, index, h);
        save(workspace.carried, index++, none);
    });
    for (int64_t part = 0; part < last; part++) {
        stage<typename Kind::V>(stretch, nullptr, scan, sequence, span, part * capacity);
        index = part * each;
        for_windows<Kind>(scan, span, [&](const Window& window) {
            State h;
            restore(h, workspace.checkpoints, index);
            recompute<false>(h, scan, sequence, span, window, stretch, workspace);
            save(workspace.checkpoints, each + index++, h);
        });
    }
    for (int64_t part = last; part >= 0; part--) {
        stage<typename Kind::V>(stretch, slope, scan, sequence, span, part * capacity);
        index = 0;
        for_windows<Kind>(scan, span, [&](const Window& window) {
            State h, gradient;
            restore(h, workspace.checkpoints, part * each + index);
            restore(gradient, workspace.carried, index);
            scan_window(call, sequence, span, window, stretch, slope, workspace, h, gradient, sums_of_part);
            save(workspace.carried, index++, gradient);
        });
    }
}

}  // namespace

void scan_backward(const BackwardCall& call, int64_t part, float* memory) {
    const hyperline_scan& scan = call.scan;
    float* sums_A = call.sums + part * (scan.channels * (scan.states + 2));
    const Sums sums_of_part = {sums_A, sums_A + scan.channels * scan.states,
                               sums_A + scan.channels * (scan.states + 1)};
    const int64_t from = scan.sequences * part / call.parts, to = scan.sequences * (part + 1) / call.parts;
    with_vectors(scan.states, [&](auto kind) {
        using Kind = decltype(kind);
        float *decays = memory + capacity * group_floats<Kind>, *carried = decays + capacity * group_floats<Kind>;
        const Workspace workspace = {memory, decays, carried, carried + windows<Kind>(scan) * group_floats<Kind>};
        for (int64_t sequence = from; sequence < to; sequence++) {
            for (int64_t channel = 0; channel < scan.channels; channel += span_channels) {
                scan_span<Kind>(call, sequence, span_at(scan, channel), workspace, sums_of_part);
            }
        }
    });
}

int64_t scan_backward_workspace(const hyperline_scan& scan) {
    return with_vectors(scan.states, [&](auto kind) {
        using Kind = decltype(kind);
        return (2 * capacity + (1 + stretches(scan)) * windows<Kind>(scan)) * group_floats<Kind>;
    });
}

}  // namespace hyperline::HYPERLINE_ISA
