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

struct Workspace {
    float* states;       // (capacity, 4, group) before each step
    float* decays;       // (capacity, 4, group)
    float* checkpoints;  // (stretches, 4, group) before each stretch
};

HYPERLINE_INLINE int64_t stretches(const hyperline_scan& scan) {
    return (scan.length + capacity - 1) / capacity;
}

template <class V, int vectors>
HYPERLINE_INLINE void save(float* to, int64_t index, const Group<V, vectors>& group) {
    __builtin_memcpy(to + index * block_channels * vectors * lanes_of<V>, &group, sizeof group);
}

template <class V, int vectors>
HYPERLINE_INLINE void restore(Group<V, vectors>& group, const float* from, int64_t index) {
    __builtin_memcpy(&group, from + index * block_channels * vectors * lanes_of<V>, sizeof group);
}

// Takes h through a staged stretch; leaves the state before, and the decay of, every step where `keep`.
template <bool keep, class V, int vectors>
HYPERLINE_INLINE void recompute(Group<V, vectors>& h, const Group<V, vectors>& rates, const Stretch<capacity>& stretch,
                                const hyperline_scan& scan, int64_t sequence, const Window& window, int64_t first,
                                int64_t count, const Workspace& workspace) {
    for (int64_t i = 0; i < count; i++) {
        if (keep) save(workspace.states, i, h);
        if (stretch.mask[i] == 0.0f) continue;
        V B[vectors];
        load_row(B, row(scan.B, sequence, place(scan, first + i)) + window.state, window.states);
        Group<V, vectors> decay;
        for (int c = 0; c < block_channels; c++) {
            const int64_t k = i * block_channels + c;
            advance(h.at[c], decay.at[c], rates.at[c], B, stretch.step[k], stretch.drive[k]);
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

// One sequence, four channels, one group of states. `sums` is the part's row of sums for A, D and delta_bias.
template <class V, int vectors>
void scan_window(const BackwardCall& call, int64_t sequence, const Window& window, const Workspace& workspace,
                 float* sums_A, float* sums_D, float* sums_bias) {
    const hyperline_scan& scan = call.scan;
    const bool first_channels = window.channel == 0, first_states = window.state == 0;
    const Group<V, vectors> rates = load_rates<V, vectors>(scan, window);
    const Vector4 D = load_some<Vector4>(scan.D + window.channel, window.channels);
    Stretch<capacity> stretch;
    float slope[capacity * block_channels];

    Group<V, vectors> h;
    load_group(h, scan.h0 + sequence * scan.h0_sequence_stride, window, scan.states);
    const int64_t last = stretches(scan) - 1;
    for (int64_t part = 0; part < last; part++) {
        save(workspace.checkpoints, part, h);
        stage<V>(stretch, nullptr, scan, sequence, window, part * capacity, capacity);
        recompute<false>(h, rates, stretch, scan, sequence, window, part * capacity, capacity, workspace);
    }

    Group<V, vectors> gradient = {};  // by the state after the step at hand
    Group<V, vectors> gradient_A = {};
    Vector4 gradient_D = {}, gradient_bias = {};
    for (int64_t part = last; part >= 0; part--) {
        const int64_t first = part * capacity, count = least(capacity, scan.length - first);
        if (part != last) restore(h, workspace.checkpoints, part);
        stage<V>(stretch, slope, scan, sequence, window, first, count);
        recompute<true>(h, rates, stretch, scan, sequence, window, first, count, workspace);

        for (int64_t i = count - 1; i >= 0; i--) {
            const int64_t t = place(scan, first + i);
            const float *step = stretch.step + i * block_channels, *drive = stretch.drive + i * block_channels;
            const Vector4 gy = load_some<Vector4>(row(call.grad_y, sequence, t) + window.channel, window.channels);
            V C[vectors], for_C[vectors] = {};
            load_row(C, row(scan.C, sequence, t) + window.state, window.states);
            for (int c = 0; c < block_channels; c++) {
                for (int v = 0; v < vectors; v++) {
                    for_C[v] += gy[c] * h.at[c][v];
                    gradient.at[c][v] += gy[c] * C[v];
                }
            }

            V for_B[vectors] = {};
            Vector4 from_input = {}, from_rate = {};
            if (stretch.mask[i] != 0.0f) {
                V B[vectors], by_input[block_channels], by_rate[block_channels];
                load_row(B, row(scan.B, sequence, t) + window.state, window.states);
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
                        gradient_A.at[c][v] += step[c] * product[v];
                    }
                    by_rate[c] = dot(product, rates.at[c]);
                }
                from_input = sums(by_input[0], by_input[1], by_input[2], by_input[3]);
                from_rate = sums(by_rate[0], by_rate[1], by_rate[2], by_rate[3]) * (1 / log2_of_e);
            }

            add_row(row(call.gradients.C, sequence, t) + window.state, for_C, window.states, first_channels);
            add_row(row(call.gradients.B, sequence, t) + window.state, for_B, window.states, first_channels);
            const Vector4 u = load<Vector4>(stretch.u + i * block_channels);
            Vector4 for_u[1] = {load<Vector4>(step) * from_input};
            Vector4 for_delta[1] = {load<Vector4>(slope + i * block_channels) * (u * from_input + from_rate)};
            if (first_states) {
                for_u[0] += D * gy;
                gradient_D += gy * u;
            }
            gradient_bias += for_delta[0];
            add_row(row(call.gradients.u, sequence, t) + window.channel, for_u, window.channels, first_states);
            add_row(row(call.gradients.delta, sequence, t) + window.channel, for_delta, window.channels, first_states);
        }
    }

    for (int c = 0; c < window.channels; c++) {
        add_row(sums_A + (window.channel + c) * scan.states + window.state, gradient_A.at[c], window.states, false);
    }
    Vector4 for_D[1] = {gradient_D}, for_bias[1] = {gradient_bias};
    add_row(sums_D + window.channel, for_D, window.channels, false);
    add_row(sums_bias + window.channel, for_bias, window.channels, false);
}

}  // namespace

void scan_backward(const BackwardCall& call, int64_t part, float* memory) {
    const hyperline_scan& scan = call.scan;
    float* sums_A = call.sums + part * (scan.channels * (scan.states + 2));
    float *sums_D = sums_A + scan.channels * scan.states, *sums_bias = sums_D + scan.channels;
    const int64_t from = scan.sequences * part / call.parts, to = scan.sequences * (part + 1) / call.parts;
    with_vectors(scan.states, [&](auto kind) {
        using Kind = decltype(kind);
        constexpr int64_t entry = block_channels * Kind::states;
        const Workspace workspace = {memory, memory + capacity * entry, memory + 2 * capacity * entry};
        for (int64_t sequence = from; sequence < to; sequence++) {
            for (int64_t channel = 0; channel < scan.channels; channel += block_channels) {
                for (int64_t state = 0; state < scan.states; state += Kind::states) {
                    scan_window<typename Kind::V, Kind::vectors>(call, sequence, window_at<Kind>(scan, channel, state),
                                                                 workspace, sums_A, sums_D, sums_bias);
                }
            }
        }
    });
}

int64_t scan_backward_workspace(const hyperline_scan& scan) {
    return with_vectors(scan.states, [&](auto kind) {
        return (2 * capacity + stretches(scan)) * block_channels * decltype(kind)::states;
    });
}

}  // namespace hyperline::HYPERLINE_ISA
