// What TensorRT looks for in a plugin library. Nothing registers itself on loading: that would bind the library to one
// major version of TensorRT.

#include "expert_gate.h"
#include "selective_scan.h"

extern "C" __attribute__((visibility("default"))) nvinfer1::IPluginCreatorInterface* const* getCreators(
    int32_t& count) {
    static hyperline::Creator<hyperline::SelectiveScan> selective_scan;
    static hyperline::Creator<hyperline::ExpertGate> expert_gate;
    static nvinfer1::IPluginCreatorInterface* const creators[] = {&selective_scan, &expert_gate};
    count = 2;
    return creators;
}
