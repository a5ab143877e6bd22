// Lists the custom ops that a library hands to ONNX Runtime: a runtime that only takes note of them.

#include <dlfcn.h>
#include <onnxruntime_c_api.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

std::vector<const OrtCustomOp*> added;

const char* ToText(ONNXTensorElementDataType type) {
    switch (type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
            return "float32";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
            return "float16";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
            return "int8";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
            return "uint8";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
            return "bool";
        default:
            return "other";
    }
}

const OrtApi* GetApi(uint32_t) noexcept {
    static const OrtApi api = [] {
        OrtApi made{};  // whatever else is called crashes, and fails the test
        made.CreateCustomOpDomain = [](const char* name, OrtCustomOpDomain** domain) noexcept -> OrtStatus* {
            std::printf("domain %s\n", name);
            *domain = reinterpret_cast<OrtCustomOpDomain*>(&added);
            return nullptr;
        };
        made.ReleaseCustomOpDomain = [](OrtCustomOpDomain*) noexcept {};
        made.CustomOpDomain_Add = [](OrtCustomOpDomain*, const OrtCustomOp* op) noexcept -> OrtStatus* {
            added.push_back(op);
            return nullptr;
        };
        made.HasSessionConfigEntry = [](const OrtSessionOptions*, const char*, int* found) noexcept -> OrtStatus* {
            *found = 0;
            return nullptr;
        };
        made.AddCustomOpDomain = [](OrtSessionOptions*, OrtCustomOpDomain*) noexcept -> OrtStatus* { return nullptr; };
        return made;
    }();
    return &api;
}

}  // namespace

int main(int, char** arguments) {
    void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        return EXIT_FAILURE;
    }
    using Register = OrtStatus* (*)(OrtSessionOptions*, const OrtApiBase*);
    const auto register_ops = reinterpret_cast<Register>(dlsym(library, "RegisterCustomOps"));
    const OrtApiBase base{GetApi, nullptr};
    if (register_ops == nullptr || register_ops(nullptr, &base) != nullptr) return EXIT_FAILURE;
    for (const OrtCustomOp* op : added) {
        const char* provider = op->GetExecutionProviderType(op);
        std::printf("%s %s:", provider ? provider : "CPUExecutionProvider", op->GetName(op));
        for (size_t i = 0; i < op->GetInputTypeCount(op); ++i) std::printf(" %s", ToText(op->GetInputType(op, i)));
        std::printf(" ->");
        for (size_t i = 0; i < op->GetOutputTypeCount(op); ++i) std::printf(" %s", ToText(op->GetOutputType(op, i)));
        std::printf("\n");
    }
    return EXIT_SUCCESS;
}
