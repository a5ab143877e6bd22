// The functions of hyperline/fused.h for one instruction set. Their arguments have been checked.
#pragma once

#include "hyperline/fused.h"

namespace hyperline::HYPERLINE_ISA {

void norm(const hyperline_norm_rows& rows);
int64_t centred_workspace(int64_t inputs);  // floats
void centred_linear(const hyperline_centred_rows& rows, float* workspace);
void pool(const hyperline_pool_block& block, int64_t first, int64_t last);
void decide(const hyperline_decision& decision);

}  // namespace hyperline::HYPERLINE_ISA
