// The table of one instruction set.
#include "scan.h"

namespace hyperline::HYPERLINE_ISA {

#define HYPERLINE_TEXT_OF(name) #name
#define HYPERLINE_TEXT(name) HYPERLINE_TEXT_OF(name)
const Kernels kernels = {HYPERLINE_TEXT(HYPERLINE_ISA), scan_forward, scan_backward, scan_backward_workspace};

}  // namespace hyperline::HYPERLINE_ISA
