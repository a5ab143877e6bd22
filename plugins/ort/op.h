// What both operators are in ONNX Runtime, wherever they run: names, types, attributes, shapes and their checks. The
// arithmetic is a kernel's: ops.cpp has those of the CPU, cuda_ops.cpp those of the GPU.
//
// A kernel is a class with kProvider, kType, a constructor (Ort::ConstKernelInfo) that reads the node's attributes, and
// Compute(Ort::KernelContext).
#ifndef HYPERLINE_ORT_OP_H
#define HYPERLINE_ORT_OP_H

// The interface comes with RegisterCustomOps. (Every file that includes this shares the one pointer to it.)
#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

#include <array>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace hyperline {

using Shape = std::vector<int64_t>;

constexpr int kOpsVersion = 1;  // of both operators, as in plugins/onnx_functions.py

inline std::string ToText(const Shape& shape) {
    std::string text;
    for (const int64_t size : shape) text += (text.empty() ? "(" : ", ") + std::to_string(size);
    return text.empty() ? "()" : text + ")";
}

[[noreturn]] inline void Refuse(std::string message) {
    throw Ort::Exception(std::move(message), ORT_INVALID_ARGUMENT);
}

// No exception may cross into the runtime.
template <typename Body>
OrtStatusPtr WithStatus(Body&& body) noexcept {
    try {
        body();
        return nullptr;
    } catch (const Ort::Exception& error) {
        return Ort::GetApi().CreateStatus(error.GetOrtErrorCode(), error.what());
    } catch (const std::exception& error) {
        return Ort::GetApi().CreateStatus(ORT_FAIL, error.what());
    }
}

struct Tensor {
    const void* data;
    Shape shape;
};

inline Tensor Input(const Ort::KernelContext& context, size_t index) {
    const Ort::ConstValue value = context.GetInput(index);
    return {value.GetTensorRawData(), value.GetTensorTypeAndShapeInfo().GetShape()};
}

// Null where the node leaves an optional output out.
template <typename Number>
Number* Output(const Ort::KernelContext& context, size_t index, const Shape& shape) {
    Ort::UnownedValue value = context.GetOutput(index, shape);
    return value ? static_cast<Number*>(value.GetTensorMutableRawData()) : nullptr;
}

[[noreturn]] inline void RefuseShape(const char* op, const char* name, const Tensor& tensor,
                                     const std::string& wanted) {
    Refuse(std::string(op) + ": " + name + " must be " + wanted + "; it is " + ToText(tensor.shape));
}

inline const float* Floats(const Tensor& tensor) {
    return static_cast<const float*>(tensor.data);
}

template <typename Kernel>
struct GuardedKernel : Kernel {
    using Kernel::Kernel;
    OrtStatusPtr ComputeV2(OrtKernelContext* context) const noexcept {
        return WithStatus([&] { this->Compute(Ort::KernelContext(context)); });
    }
};

// What both ops say of themselves. A subclass has kName, kInputs, and IsFloat32 for inputs and outputs that are float32
// whatever the kernel's type is.
template <typename Op, typename Kernel>
struct KernelOp : Ort::CustomOpBase<Op, GuardedKernel<Kernel>, true> {
    KernelOp() { this->start_ver_ = this->end_ver_ = kOpsVersion; }
    const char* GetName() const { return Op::kName; }
    const char* GetExecutionProviderType() const { return Kernel::kProvider; }
    size_t GetInputTypeCount() const { return Op::kInputs; }
    size_t GetOutputTypeCount() const { return 2; }
    ONNXTensorElementDataType GetInputType(size_t index) const {
        return Op::IsFloat32Input(index) ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : Kernel::kType;
    }
    ONNXTensorElementDataType GetOutputType(size_t index) const {
        return Op::IsFloat32Output(index) ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : Kernel::kType;
    }
    OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const {
        return WithStatus([&] { *kernel = new GuardedKernel<Kernel>(Ort::ConstKernelInfo(info)); });
    }
};

// -------------------------------------------------------------------------------------------------- SelectiveScan ---

inline constexpr std::array kScanInputNames{"u", "delta", "A", "B", "C", "D", "delta_bias", "h0", "mask"};

inline bool ReverseOf(const Ort::ConstKernelInfo& info) {
    return info.GetAttribute<int64_t>("reverse") != 0;
}

// The node's inputs as the C interface takes them, hyperline_scan or hyperline_cuda_scan, once their shapes are
// checked.
template <typename Scan>
Scan ScanOf(const Ort::KernelContext& context, bool reverse) {
    std::array<Tensor, kScanInputNames.size()> inputs;
    for (size_t i = 0; i < inputs.size(); ++i) inputs[i] = Input(context, i);
    const auto& [u, delta, A, B, C, D, delta_bias, h0, mask] = inputs;
    if (u.shape.size() != 3 || A.shape.size() != 2)
        Refuse("SelectiveScan: u is (S, L, D) and A is (D, N); here u is " + ToText(u.shape) + ", A " +
               ToText(A.shape));
    const int64_t S = u.shape[0], L = u.shape[1], channels = u.shape[2], N = A.shape[1];

    // Of h0 one row may serve all sequences, of mask one row and one step all of theirs.
    const bool one_h0 = h0.shape.size() == 3 && h0.shape[0] == 1;
    const bool one_row = mask.shape.size() == 2 && mask.shape[0] == 1;
    const bool one_step = mask.shape.size() == 2 && mask.shape[1] == 1;
    const std::array<Shape, kScanInputNames.size()> wanted{{{S, L, channels},
                                                            {S, L, channels},
                                                            {channels, N},
                                                            {S, L, N},
                                                            {S, L, N},
                                                            {channels},
                                                            {channels},
                                                            {one_h0 ? 1 : S, channels, N},
                                                            {one_row ? 1 : S, one_step ? 1 : L}}};
    for (size_t i = 0; i < inputs.size(); ++i)
        if (inputs[i].shape != wanted[i])
            Refuse(std::string("SelectiveScan: ") + kScanInputNames[i] + " must be " + ToText(wanted[i]) +
                   " beside u " + ToText(u.shape) + " and A " + ToText(A.shape) + "; it is " + ToText(inputs[i].shape));

    // Contiguous, as all of ONNX Runtime's tensors are.
    const auto rows = [](const Tensor& tensor, int64_t sequence_stride, int64_t step_stride) {
        return decltype(Scan::u){static_cast<decltype(Scan::u.data)>(tensor.data), sequence_stride, step_stride};
    };
    Scan scan{};
    scan.sequences = S;
    scan.length = L;
    scan.channels = channels;
    scan.states = N;
    scan.reverse = reverse;
    scan.u = rows(u, L * channels, channels);
    scan.delta = rows(delta, L * channels, channels);
    scan.B = rows(B, L * N, N);
    scan.C = rows(C, L * N, N);
    scan.mask = rows(mask, one_row ? 0 : mask.shape[1], one_step ? 0 : 1);
    scan.A = static_cast<const float*>(A.data);
    scan.D = static_cast<const float*>(D.data);
    scan.delta_bias = static_cast<const float*>(delta_bias.data);
    scan.h0 = static_cast<const float*>(h0.data);
    scan.h0_sequence_stride = one_h0 ? 0 : channels * N;
    return scan;
}

template <typename Kernel>
struct SelectiveScan : KernelOp<SelectiveScan<Kernel>, Kernel> {
    static constexpr const char* kName = "SelectiveScan";
    static constexpr size_t kInputs = kScanInputNames.size();
    static bool IsFloat32Input(size_t index) { return index == 2 || index > 4; }  // all but u, delta, B and C
    static bool IsFloat32Output(size_t index) { return index == 1; }              // h
    OrtCustomOpInputOutputCharacteristic GetOutputCharacteristic(size_t index) const {
        return index == 1 ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
    }
    static Ort::Status InferOutputShape(Ort::ShapeInferContext& context) {
        const auto& u = context.GetInputShape(0);
        const auto& A = context.GetInputShape(2);
        if (u.size() != 3 || A.size() != 2) return Ort::Status(nullptr);  // unknown yet: Compute will look again
        Ort::Status status = context.SetOutputShape(0, u);
        return status.IsOK() ? context.SetOutputShape(1, {u[0], A[0], A[1]}) : std::move(status);
    }
};

// ----------------------------------------------------------------------------------------------------- ExpertGate ---

inline int64_t KOf(const Ort::ConstKernelInfo& info) {
    return info.GetAttribute<int64_t>("k");
}

// The node's input, once its shape is checked: (R, E).
inline Tensor LogitsOf(const Ort::KernelContext& context, int64_t k) {
    Tensor logits = Input(context, 0);
    if (logits.shape.size() != 2) Refuse("ExpertGate: logits is (R, E); here it is " + ToText(logits.shape));
    if (k < 1 || k > logits.shape[1])
        Refuse("ExpertGate: k is " + std::to_string(k) + " for logits " + ToText(logits.shape) + "; give 1 to E");
    return logits;
}

template <typename Kernel>
struct ExpertGate : KernelOp<ExpertGate<Kernel>, Kernel> {
    static constexpr const char* kName = "ExpertGate";
    static constexpr size_t kInputs = 1;
    static bool IsFloat32Input(size_t) { return false; }
    static bool IsFloat32Output(size_t) { return false; }
    static Ort::Status InferOutputShape(Ort::ShapeInferContext& context) {
        const auto& logits = context.GetInputShape(0);
        Ort::Status status = context.SetOutputShape(0, logits);
        return status.IsOK() ? context.SetOutputShape(1, logits) : std::move(status);
    }
};

}  // namespace hyperline

#endif
