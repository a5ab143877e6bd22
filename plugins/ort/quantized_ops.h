// The INT8 layers as ONNX Runtime custom ops on the CPU: domain hyperline.quantized.
#ifndef HYPERLINE_ORT_QUANTIZED_OPS_H
#define HYPERLINE_ORT_QUANTIZED_OPS_H

#include "op.h"

namespace hyperline {

// The layers of plugins/quantized_functions.py. Lives as long as the library.
const Ort::CustomOpDomain& QuantizedDomain();

}  // namespace hyperline

#endif
