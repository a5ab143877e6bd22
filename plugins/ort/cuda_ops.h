// The operators for ONNX Runtime's CUDA provider.
#ifndef HYPERLINE_ORT_CUDA_OPS_H
#define HYPERLINE_ORT_CUDA_OPS_H

#include "op.h"

namespace hyperline {

// Adds both operators, each for float32 and float16. A runtime without the provider never makes their kernels.
void AddCudaOps(Ort::CustomOpDomain& domain);

}  // namespace hyperline

#endif
