// Norms with what stands before and after them as ONNX Runtime custom ops on the CPU: domain hyperline.fused.
#ifndef HYPERLINE_ORT_FUSED_OPS_H
#define HYPERLINE_ORT_FUSED_OPS_H

#include "op.h"

namespace hyperline {

// The functions of plugins/fused_functions.py. Lives as long as the library.
const Ort::CustomOpDomain& FusedDomain();

}  // namespace hyperline

#endif
