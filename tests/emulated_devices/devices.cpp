// devices.cpp - GPUs for StarPU that are not there: the calls of CUDA's runtime that StarPU makes, on host memory.
// Comes before CUDA's own library when a program is linked; StarPU then has CUDA workers, copies to and from their
// memories and evicts from them. Everything ends before a call returns. Environment: EMULATED_GPUS, how many (1);
// EMULATED_GPU_MIB, memory of each (1024); of it others hold EMULATED_GPU_TAKEN_MIB (0), and take
// EMULATED_GPU_TAKEN_LATER_MIB (0) after whoever asks what is free got an answer. Each number of GPUs is a machine of
// its own, whose models no other's are mixed with, unless STARPU_HOSTNAME names one.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace {

constexpr size_t mebibyte = size_t(1) << 20;
constexpr int most_devices = 8;

size_t number(const char* name, size_t otherwise) {
    const char* text = std::getenv(name);
    return text ? size_t(std::strtoull(text, nullptr, 10)) : otherwise;
}
int devices() { return int(std::min<size_t>(number("EMULATED_GPUS", 1), most_devices)); }
size_t total_bytes() { return number("EMULATED_GPU_MIB", 1024) * mebibyte; }

struct Allocation {
    size_t bytes;
    int device;
};
struct Memory {
    std::mutex mutex;
    std::map<const char*, Allocation> allocations;
    size_t used[most_devices] = {};

    Memory() { std::fill_n(used, most_devices, number("EMULATED_GPU_TAKEN_MIB", 0) * mebibyte); }
    // The device that the address lies on, or -1.
    int device_of(const void* p) {
        std::lock_guard lock(mutex);
        auto after = allocations.upper_bound(static_cast<const char*>(p));
        if (after == allocations.begin()) return -1;
        const auto& [start, a] = *--after;
        return static_cast<const char*>(p) < start + a.bytes ? a.device : -1;
    }
};
Memory& memory() {
    static Memory one;
    return one;
}
const int named = setenv("STARPU_HOSTNAME", ("gpus-" + std::to_string(devices())).c_str(), 0);
thread_local int current = 0;
thread_local cudaError_t last = cudaSuccess;

cudaError_t failed(cudaError_t e) { return last = e; }

// A copy between a device and the host must name the device's side rightly.
cudaError_t check_kind(const void* to, const void* from, cudaMemcpyKind kind) {
    const bool to_device = memory().device_of(to) >= 0, from_device = memory().device_of(from) >= 0;
    const bool right = kind == cudaMemcpyDefault || (kind == cudaMemcpyHostToDevice && to_device && !from_device) ||
                       (kind == cudaMemcpyDeviceToHost && !to_device && from_device) ||
                       (kind == cudaMemcpyDeviceToDevice && to_device && from_device) ||
                       (kind == cudaMemcpyHostToHost && !to_device && !from_device);
    return right ? cudaSuccess : failed(cudaErrorInvalidMemcpyDirection);
}
template <class Handle>
cudaError_t handle(Handle* made) {
    static char any;
    return *made = reinterpret_cast<Handle>(&any), cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
    *count = devices();
    return *count > 0 ? cudaSuccess : failed(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= devices()) return failed(cudaErrorInvalidDevice);
    return current = device, cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) { return *device = current, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
    if (device < 0 || device >= devices()) return failed(cudaErrorInvalidDevice);
    *p = {};
    std::snprintf(p->name, sizeof p->name, "emulated");
    p->totalGlobalMem = total_bytes();
    p->major = 9, p->multiProcessorCount = 1, p->pciBusID = 0x70 + device, p->unifiedAddressing = 1;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int device) {
    *value = what == cudaDevAttrPciBusId ? 0x70 + device : what == cudaDevAttrUnifiedAddressing ? 1 : 0;
    return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int a, int b) { return *can = a != b, cudaSuccess; }
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
cudaError_t cudaDeviceReset() { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaGetLastError() { return std::exchange(last, cudaSuccess); }
const char* cudaGetErrorString(cudaError_t e) {
    switch (e) {
        case cudaErrorMemoryAllocation:
            return "out of memory";
        case cudaErrorNoDevice:
            return "no CUDA-capable device is detected";
        case cudaErrorInvalidMemcpyDirection:
            return "invalid copy direction for memcpy";
        default:
            return "invalid argument";
    }
}

cudaError_t cudaMalloc(void** made, size_t bytes) {
    *made = nullptr;
    if (bytes == 0) return cudaSuccess;
    Memory& m = memory();
    std::lock_guard lock(m.mutex);
    const size_t taken_later = number("EMULATED_GPU_TAKEN_LATER_MIB", 0) * mebibyte;
    if (m.used[current] + taken_later + bytes > total_bytes()) return failed(cudaErrorMemoryAllocation);
    *made = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!*made) return failed(cudaErrorMemoryAllocation);
    std::memset(*made, 0xff, bytes);  // NaN
    m.allocations[static_cast<char*>(*made)] = {bytes, current};
    m.used[current] += bytes;
    return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
    if (!p) return cudaSuccess;
    Memory& m = memory();
    std::lock_guard lock(m.mutex);
    const auto at = m.allocations.find(static_cast<char*>(p));
    if (at == m.allocations.end()) return failed(cudaErrorInvalidValue);
    std::memset(p, 0xff, at->second.bytes);
    m.used[at->second.device] -= at->second.bytes;
    m.allocations.erase(at);
    std::free(p);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
    Memory& m = memory();
    std::lock_guard lock(m.mutex);
    *total = total_bytes();
    return *free_bytes = *total - std::min(*total, m.used[current]), cudaSuccess;
}
cudaError_t cudaHostAlloc(void** made, size_t bytes, unsigned) {
    *made = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    return *made ? cudaSuccess : failed(cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* p) { return std::free(p), cudaSuccess; }
cudaError_t cudaHostRegister(void*, size_t, unsigned) { return cudaSuccess; }
cudaError_t cudaHostUnregister(void*) { return cudaSuccess; }
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) { return *device = host, cudaSuccess; }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
    const int device = memory().device_of(p);
    *a = {};
    a->type = device >= 0 ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
    a->device = device, a->devicePointer = a->hostPointer = const_cast<void*>(p);
    return cudaSuccess;
}

cudaError_t cudaMemset(void* p, int value, size_t bytes) { return std::memset(p, value, bytes), cudaSuccess; }
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    if (const cudaError_t e = check_kind(to, from, kind)) return e;
    return std::memcpy(to, from, bytes), cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
    return cudaMemcpy(to, from, bytes, kind);
}
cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind) {
    if (width > to_pitch || width > from_pitch) return failed(cudaErrorInvalidPitchValue);
    if (const cudaError_t e = check_kind(to, from, kind)) return e;
    for (size_t i = 0; i < height; ++i)
        std::memcpy(static_cast<char*>(to) + i * to_pitch, static_cast<const char*>(from) + i * from_pitch, width);
    return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t) {
    return cudaMemcpy2D(to, to_pitch, from, from_pitch, width, height, kind);
}
cudaError_t cudaMemcpyPeer(void* to, int to_device, const void* from, int from_device, size_t bytes) {
    if (memory().device_of(to) != to_device || memory().device_of(from) != from_device)
        return failed(cudaErrorInvalidValue);
    return std::memcpy(to, from, bytes), cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device, size_t bytes,
                                cudaStream_t) {
    return cudaMemcpyPeer(to, to_device, from, from_device, bytes);
}
cudaError_t cudaMemcpy3DPeer(const cudaMemcpy3DPeerParms* p) {
    if (memory().device_of(p->dstPtr.ptr) != p->dstDevice || memory().device_of(p->srcPtr.ptr) != p->srcDevice)
        return failed(cudaErrorInvalidValue);
    const auto at = [](const cudaPitchedPtr& m, const cudaPos& o, size_t z, size_t y) {
        return static_cast<char*>(m.ptr) + (((o.z + z) * m.ysize) + o.y + y) * m.pitch + o.x;
    };
    for (size_t z = 0; z < p->extent.depth; ++z)
        for (size_t y = 0; y < p->extent.height; ++y)
            std::memcpy(at(p->dstPtr, p->dstPos, z, y), at(p->srcPtr, p->srcPos, z, y), p->extent.width);
    return cudaSuccess;
}
cudaError_t cudaMemcpy3DPeerAsync(const cudaMemcpy3DPeerParms* p, cudaStream_t) { return cudaMemcpy3DPeer(p); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) { return handle(s); }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) { return handle(e); }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }

// Handles of libraries that StarPU makes for each worker; the emulated cuBLAS takes any.
int cublasCreate_v2(void** h) { return handle(h); }
int cublasDestroy_v2(void*) { return 0; }
int cublasSetStream_v2(void*, cudaStream_t) { return 0; }
int cublasInit() { return 0; }
int cublasShutdown() { return 0; }
int cublasSetKernelStream(cudaStream_t) { return 0; }
int cublasLtCreate(void** h) { return handle(h); }
int cublasLtDestroy(void*) { return 0; }
int cusparseCreate(void** h) { return handle(h); }
int cusparseDestroy(void*) { return 0; }
int cusparseSetStream(void*, cudaStream_t) { return 0; }
int cusolverDnCreate(void** h) { return handle(h); }
int cusolverDnDestroy(void*) { return 0; }
int cusolverDnSetStream(void*, cudaStream_t) { return 0; }
int cusolverSpCreate(void** h) { return handle(h); }
int cusolverSpDestroy(void*) { return 0; }
int cusolverSpSetStream(void*, cudaStream_t) { return 0; }
int cusolverRfCreate(void** h) { return handle(h); }
int cusolverRfDestroy(void*) { return 0; }

}  // extern "C"
