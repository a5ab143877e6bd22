// Where the packed weights of this process lie, for whoever guards memory against flipped bits.
#pragma once

#include "hyperline/quantized.h"

namespace hyperline {

// False where memory ran out.
bool remember_packed(hyperline_quantized_weight* weight);
void forget_packed(const hyperline_quantized_weight* weight);

}  // namespace hyperline
