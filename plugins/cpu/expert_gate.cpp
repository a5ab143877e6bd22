// ExpertGate. A row a block and four experts or so: nothing to vectorise, and double sums cost nothing.

#include <algorithm>
#include <cmath>

#include "hyperline/ops.h"

int hyperline_expert_gate(int64_t rows, int64_t experts, int64_t k, const float* logits, float* weights,
                          float* active) {
    if (rows < 0 || experts < 1 || k < 1 || k > experts || !logits || !weights || !active)
        return HYPERLINE_BAD_ARGUMENT;
    for (int64_t r = 0; r < rows; r++, logits += experts, weights += experts, active += experts) {
        const double largest = *std::max_element(logits, logits + experts);
        double sum = 0.0;
        for (int64_t e = 0; e < experts; e++) sum += std::exp(logits[e] - largest);
        for (int64_t e = 0; e < experts; e++) {
            // Its rank: larger logits go before it, and equal ones of a lower index.
            int64_t rank = 0;
            for (int64_t other = 0; other < experts; other++) {
                rank += logits[other] > logits[e] || (logits[other] == logits[e] && other < e);
            }
            active[e] = rank < k ? 1.0f : 0.0f;
            weights[e] = rank < k ? static_cast<float>(std::exp(logits[e] - largest) / sum) : 0.0f;
        }
    }
    return HYPERLINE_OK;
}
