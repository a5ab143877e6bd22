// The table of one instruction set.
#include "kernels.h"

#include "fused.h"
#include "scan.h"

namespace hyperline::HYPERLINE_ISA {

#define HYPERLINE_TEXT_OF(name) #name
#define HYPERLINE_TEXT(name) HYPERLINE_TEXT_OF(name)
const Kernels kernels = {HYPERLINE_TEXT(HYPERLINE_ISA),
                         scan_forward,
                         scan_backward,
                         scan_backward_workspace,
                         norm,
                         centred_workspace,
                         centred_linear,
                         pool,
                         decide};

}  // namespace hyperline::HYPERLINE_ISA
