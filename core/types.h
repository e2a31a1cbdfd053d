// core/types.h - element types: f32, f64, bf16 (storage; arithmetic in f32), i32 (labels), u8 (images).
#pragma once
#include <cstdint>
#include <cstring>
#include <string_view>

#ifdef __CUDACC__
#define HD __host__ __device__  // one formula for host and device; nothing else can say this
#else
#define HD
#endif

namespace tessera {

enum class DType : uint8_t { f32, f64, bf16, i32, u8 };

// The upper half of a float: 8 exponent bits, 7 of mantissa. Conversion rounds to nearest even and keeps NaN.
struct bf16 {
    uint16_t bits = 0;
    bf16() = default;
    HD explicit bf16(float value) {
        uint32_t u;
        memcpy(&u, &value, 4);
        const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
        bits = uint16_t(is_nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
    HD operator float() const {
        const uint32_t u = uint32_t(bits) << 16;
        float value;
        memcpy(&value, &u, 4);
        return value;
    }
};

template <class T>
struct TypeOf;  // storage type -> DType, and the type that arithmetic on it is done in
template <>
struct TypeOf<float> {
    static constexpr DType dtype = DType::f32;
    using Compute = float;
};
template <>
struct TypeOf<double> {
    static constexpr DType dtype = DType::f64;
    using Compute = double;
};
template <>
struct TypeOf<bf16> {
    static constexpr DType dtype = DType::bf16;
    using Compute = float;
};
template <>
struct TypeOf<int32_t> {
    static constexpr DType dtype = DType::i32;
    using Compute = int32_t;
};
template <>
struct TypeOf<uint8_t> {
    static constexpr DType dtype = DType::u8;
    using Compute = int32_t;
};
template <class T>
inline constexpr DType dtype_of = TypeOf<T>::dtype;
template <class T>
using Compute = typename TypeOf<T>::Compute;

struct DTypeFacts {
    std::string_view name, safetensors;
    int64_t bytes;
    double epsilon;  // distance from 1 to the next value; 0 for integers
};
constexpr DTypeFacts facts(DType t) {
    constexpr DTypeFacts table[] = {{"f32", "F32", 4, 0x1p-23},
                                    {"f64", "F64", 8, 0x1p-52},
                                    {"bf16", "BF16", 2, 0x1p-7},
                                    {"i32", "I32", 4, 0},
                                    {"u8", "U8", 1, 0}};
    return table[int(t)];
}
constexpr int64_t bytes_of(DType t) { return facts(t).bytes; }
constexpr std::string_view name_of(DType t) { return facts(t).name; }

}  // namespace tessera
