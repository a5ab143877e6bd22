// The two operators as ONNX Runtime custom ops: attributes and shapes are checked here, the arithmetic is the C ABI's.
//
// A registered op wins over the model-local function of the same name. A model that carries its function bodies so
// runs on these kernels where this library is loaded, and on the bodies everywhere else.

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "hyperline/ops.h"

namespace {

using Shape = std::vector<int64_t>;

constexpr int kOpsVersion = 1;  // of both operators, as in plugins/onnx_functions.py

// A part of a scan is what one thread takes at once: about 10 µs of work. Smaller parts cost more to hand out than
// they balance, larger ones leave a thread idle at the end.
constexpr int64_t kUpdatesPerPart = 1 << 15;

std::string ToText(const Shape& shape) {
    std::string text;
    for (const int64_t size : shape) text += (text.empty() ? "(" : ", ") + std::to_string(size);
    return text.empty() ? "()" : text + ")";
}

[[noreturn]] void Refuse(std::string message) {
    throw Ort::Exception(std::move(message), ORT_INVALID_ARGUMENT);
}

void Require(int status) {
    if (status != HYPERLINE_OK) throw Ort::Exception(hyperline_status_text(status), ORT_FAIL);
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
    const float* data;
    Shape shape;
};

Tensor Input(const Ort::KernelContext& context, size_t index) {
    const Ort::ConstValue value = context.GetInput(index);
    return {value.GetTensorData<float>(), value.GetTensorTypeAndShapeInfo().GetShape()};
}

// Null where the node leaves an optional output out.
float* Output(const Ort::KernelContext& context, size_t index, const Shape& shape) {
    Ort::UnownedValue value = context.GetOutput(index, shape);
    return value ? value.GetTensorMutableData<float>() : nullptr;
}

// What both ops say of themselves. A subclass has kName, kInputs and a Kernel made from the node's attributes.
template <typename Op, typename Kernel>
struct FloatOp : Ort::CustomOpBase<Op, Kernel, true> {
    FloatOp() { this->start_ver_ = this->end_ver_ = kOpsVersion; }
    const char* GetName() const { return Op::kName; }
    size_t GetInputTypeCount() const { return Op::kInputs; }
    size_t GetOutputTypeCount() const { return 2; }
    ONNXTensorElementDataType GetInputType(size_t) const { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; }
    ONNXTensorElementDataType GetOutputType(size_t) const { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; }
    OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const {
        return WithStatus([&] { *kernel = new Kernel(Ort::ConstKernelInfo(info)); });
    }
};

// -------------------------------------------------------------------------------------------------- SelectiveScan ---

class ScanKernel {
  public:
    static constexpr std::array kInputNames{"u", "delta", "A", "B", "C", "D", "delta_bias", "h0", "mask"};

    explicit ScanKernel(const Ort::ConstKernelInfo& info) : reverse_(info.GetAttribute<int64_t>("reverse") != 0) {}

    OrtStatusPtr ComputeV2(OrtKernelContext* context) const noexcept {
        return WithStatus([&] { Compute(Ort::KernelContext(context)); });
    }

  private:
    void Compute(const Ort::KernelContext& context) const;

    bool reverse_;
};

// One scan cut into parts of some sequences each, for the threads of the session.
struct ScanParts {
    hyperline_scan scan;
    hyperline_output y;
    float* h;  // null where nobody wants it
    int64_t sequences_per_part;
    std::atomic<int> status{HYPERLINE_OK};

    void Run(int64_t part) noexcept {
        const int64_t first = part * sequences_per_part;
        hyperline_scan some = scan;
        some.sequences = std::min(sequences_per_part, scan.sequences - first);
        for (hyperline_input* input : {&some.u, &some.delta, &some.B, &some.C, &some.mask})
            input->data += first * input->sequence_stride;
        some.h0 += first * some.h0_sequence_stride;
        const hyperline_output y_part{y.data + first * y.sequence_stride, y.sequence_stride, y.step_stride};
        // A state that nobody wants stays in cache: written out, that of 2048 pixels would be 2 MB a scan.
        const int64_t state = scan.channels * scan.states;
        const std::unique_ptr<float[]> unwanted(h ? nullptr : new (std::nothrow) float[some.sequences * state]);
        float* const some_h = h ? h + first * state : unwanted.get();
        const int result = some_h ? hyperline_selective_scan(&some, y_part, some_h) : HYPERLINE_OUT_OF_MEMORY;
        if (result != HYPERLINE_OK) status = result;
    }
};

void ScanKernel::Compute(const Ort::KernelContext& context) const {
    std::array<Tensor, kInputNames.size()> inputs;
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
    const std::array<Shape, kInputNames.size()> wanted{{{S, L, channels},
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
            Refuse(std::string("SelectiveScan: ") + kInputNames[i] + " must be " + ToText(wanted[i]) + " beside u " +
                   ToText(u.shape) + " and A " + ToText(A.shape) + "; it is " + ToText(inputs[i].shape));

    ScanParts parts{};
    parts.scan.sequences = S;
    parts.scan.length = L;
    parts.scan.channels = channels;
    parts.scan.states = N;
    parts.scan.reverse = reverse_;
    parts.scan.threads = 1;  // the session's threads share out the parts; a second pool would fight them for the cores
    parts.scan.u = {u.data, L * channels, channels};
    parts.scan.delta = {delta.data, L * channels, channels};
    parts.scan.B = {B.data, L * N, N};
    parts.scan.C = {C.data, L * N, N};
    parts.scan.mask = {mask.data, one_row ? 0 : mask.shape[1], one_step ? 0 : 1};
    parts.scan.A = A.data;
    parts.scan.D = D.data;
    parts.scan.delta_bias = delta_bias.data;
    parts.scan.h0 = h0.data;
    parts.scan.h0_sequence_stride = one_h0 ? 0 : channels * N;
    parts.y = {Output(context, 0, u.shape), L * channels, channels};
    parts.h = Output(context, 1, {S, channels, N});
    if (S == 0) return;
    parts.sequences_per_part = std::max<int64_t>(1, kUpdatesPerPart / std::max<int64_t>(1, L * channels * N));
    const auto count = static_cast<size_t>((S + parts.sequences_per_part - 1) / parts.sequences_per_part);
    // as many batches as parts: a thread that is held up is overtaken, which an even split would wait for
    context.ParallelFor([](void* self, size_t part) { static_cast<ScanParts*>(self)->Run(static_cast<int64_t>(part)); },
                        count, count, &parts);
    Require(parts.status);
}

struct SelectiveScan : FloatOp<SelectiveScan, ScanKernel> {
    static constexpr const char* kName = "SelectiveScan";
    static constexpr size_t kInputs = ScanKernel::kInputNames.size();
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

class GateKernel {
  public:
    explicit GateKernel(const Ort::ConstKernelInfo& info) : k_(info.GetAttribute<int64_t>("k")) {}

    OrtStatusPtr ComputeV2(OrtKernelContext* context) const noexcept {
        return WithStatus([&] { Compute(Ort::KernelContext(context)); });
    }

  private:
    void Compute(const Ort::KernelContext& context) const {
        const Tensor logits = Input(context, 0);
        if (logits.shape.size() != 2) Refuse("ExpertGate: logits is (R, E); here it is " + ToText(logits.shape));
        if (k_ < 1 || k_ > logits.shape[1])
            Refuse("ExpertGate: k is " + std::to_string(k_) + " for logits " + ToText(logits.shape) + "; give 1 to E");
        float* weights = Output(context, 0, logits.shape);
        float* active = Output(context, 1, logits.shape);
        Require(hyperline_expert_gate(logits.shape[0], logits.shape[1], k_, logits.data, weights, active));
    }

    int64_t k_;
};

struct ExpertGate : FloatOp<ExpertGate, GateKernel> {
    static constexpr const char* kName = "ExpertGate";
    static constexpr size_t kInputs = 1;
    static Ort::Status InferOutputShape(Ort::ShapeInferContext& context) {
        const auto& logits = context.GetInputShape(0);
        Ort::Status status = context.SetOutputShape(0, logits);
        return status.IsOK() ? context.SetOutputShape(1, logits) : std::move(status);
    }
};

// The runtime keeps pointers to both the domain and its ops for as long as a session lives, so they live as long as
// the library.
struct Domain {
    SelectiveScan scan;
    ExpertGate gate;
    Ort::CustomOpDomain domain{"hyperline"};

    Domain() {
        domain.Add(&scan);
        domain.Add(&gate);
    }
};

}  // namespace

// What onnxruntime looks for when it is told to register a library of custom ops.
extern "C" HYPERLINE_API OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
    const OrtApi* api = base->GetApi(ORT_API_VERSION);
    if (api == nullptr) {  // an older runtime than the headers; this much of the interface never changed
        return base->GetApi(1)->CreateStatus(
            ORT_FAIL, "the runtime is older than the headers that hyperline's operators were built with");
    }
    Ort::InitApi(api);
    return WithStatus([&] {
        static const Domain ours;
        Ort::UnownedSessionOptions(options).Add(ours.domain);
    });
}
