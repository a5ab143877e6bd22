// The operators as ONNX Runtime custom ops on the CPU, over the C interface of plugins/cpu, and their registration.
//
// A registered op wins over the model-local function of the same name. A model that carries its function bodies so
// runs on these kernels where this library is loaded, and on the bodies everywhere else.

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include "hyperline/ops.h"
#include "op.h"
#include "quantized_ops.h"
#ifdef HYPERLINE_ORT_CUDA
#include "cuda_ops.h"
#endif

namespace hyperline {
namespace {

// A part of a scan is what one thread takes at once: about 10 µs of work. Smaller parts cost more to hand out than
// they balance, larger ones leave a thread idle at the end.
constexpr int64_t kUpdatesPerPart = 1 << 15;

void Require(int status) {
    if (status != HYPERLINE_OK) throw Ort::Exception(hyperline_status_text(status), ORT_FAIL);
}

struct OnCpu {
    static constexpr const char* kProvider = nullptr;  // ONNX Runtime's word for its own
    static constexpr ONNXTensorElementDataType kType = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
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

class CpuScan : public OnCpu {
  public:
    explicit CpuScan(const Ort::ConstKernelInfo& info) : reverse_(ReverseOf(info)) {}

    void Compute(const Ort::KernelContext& context) const {
        ScanParts parts{};
        parts.scan = ScanOf<hyperline_scan>(context, reverse_);
        const auto [S, L, channels, N] =
            std::array{parts.scan.sequences, parts.scan.length, parts.scan.channels, parts.scan.states};
        // the session's threads share out the parts; a second pool would fight them for the cores
        parts.scan.threads = 1;
        parts.y = {Output<float>(context, 0, {S, L, channels}), L * channels, channels};
        parts.h = Output<float>(context, 1, {S, channels, N});
        if (S == 0) return;
        parts.sequences_per_part = std::max<int64_t>(1, kUpdatesPerPart / std::max<int64_t>(1, L * channels * N));
        const auto count = static_cast<size_t>((S + parts.sequences_per_part - 1) / parts.sequences_per_part);
        // as many batches as parts: a thread that is held up is overtaken, which an even split would wait for
        context.ParallelFor(
            [](void* self, size_t part) { static_cast<ScanParts*>(self)->Run(static_cast<int64_t>(part)); }, count,
            count, &parts);
        Require(parts.status);
    }

  private:
    bool reverse_;
};

class CpuGate : public OnCpu {
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
    SelectiveScan<CpuScan> scan;
    ExpertGate<CpuGate> gate;
    Ort::CustomOpDomain domain{"hyperline"};

    Domain() {
        domain.Add(&scan);
        domain.Add(&gate);
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
        Ort::UnownedSessionOptions(options).Add(ours.domain);
        Ort::UnownedSessionOptions(options).Add(hyperline::QuantizedDomain());
    });
}
