// The operators as ONNX Runtime custom ops on the CPU, over the C interface of plugins/cpu, and their registration.
//
// A registered op wins over the model-local function of the same name. A model that carries its function bodies so
// runs on these kernels where this library is loaded, and on the bodies everywhere else.

#include <algorithm>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "fused_ops.h"
#include "hyperline/ops.h"
#include "op.h"
#include "quantized_ops.h"
#include "scan_parts.h"
#ifdef HYPERLINE_ORT_CUDA
#include "cuda_ops.h"
#endif

namespace hyperline {
namespace {

template <typename Number>
struct OnCpu {
    static constexpr const char* kProvider = nullptr;  // ONNX Runtime's word for its own
    static constexpr ONNXTensorElementDataType kType =
        std::is_same_v<Number, float> ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
};

template <typename Number>
class CpuScan : public OnCpu<Number> {
  public:
    explicit CpuScan(const Ort::ConstKernelInfo& info) : reverse_(ReverseOf(info)) {}

    void Compute(const Ort::KernelContext& context) const {
        ScanParts<Number> parts{};
        parts.scan = ScanOf<hyperline_scan>(context, reverse_);
        const auto [S, L, channels, N] =
            std::array{parts.scan.sequences, parts.scan.length, parts.scan.channels, parts.scan.states};
        parts.y = Output<Number>(context, 0, {S, L, channels});
        parts.h = Output<float>(context, 1, {S, channels, N});
        RunParts(context, parts);
    }

  private:
    bool reverse_;
};

class CpuGate : public OnCpu<float> {
  public:
    explicit CpuGate(const Ort::ConstKernelInfo& info) : k_(KOf(info)) {}

    void Compute(const Ort::KernelContext& context) const {
        const Tensor logits = LogitsOf(context, k_);
        float* weights = Output<float>(context, 0, logits.shape);
        float* active = Output<float>(context, 1, logits.shape);
        Require(hyperline_expert_gate(logits.shape[0], logits.shape[1], k_, static_cast<const float*>(logits.data),
                                      weights, active));
    }

  private:
    int64_t k_;
};

// The runtime keeps pointers to both the domain and its ops for as long as a session lives, so they live as long as
// the library.
struct Domain {
    SelectiveScan<CpuScan<float>> scan;
    SelectiveScan<CpuScan<Half>> half_scan;
    ExpertGate<CpuGate> gate;
    Ort::CustomOpDomain domain{"hyperline"};

    Domain() {
        domain.Add(&scan);
        domain.Add(&gate);
        domain.Add(&half_scan);
#ifdef HYPERLINE_ORT_CUDA
        AddCudaOps(domain);
#endif
    }
};

}  // namespace
}  // namespace hyperline

// What onnxruntime looks for when it is told to register a library of custom ops.
extern "C" HYPERLINE_API OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
    const OrtApi* api = base->GetApi(ORT_API_VERSION);
    if (api == nullptr) {  // an older runtime than the headers; this much of the interface never changed
        return base->GetApi(1)->CreateStatus(
            ORT_FAIL, "the runtime is older than the headers that hyperline's operators were built with");
    }
    Ort::InitApi(api);
    return hyperline::WithStatus([&] {
        static const hyperline::Domain ours;
        Ort::UnownedSessionOptions session(options);
        session.Add(ours.domain);
        // They have kernels for the CPU alone: on a GPU their bodies are the faster way.
        if (session.HasConfigEntry("hyperline.gpu")) return;
        session.Add(hyperline::QuantizedDomain());
        session.Add(hyperline::FusedDomain());
    });
}
