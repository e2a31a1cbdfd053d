// codelets/vector_math.h - tells GCC that glibc has exp, tanh and erfc for whole vectors (libmvec, within 4 ulp), which
// its headers say only under -ffast-math. Loops over std::exp and so on are then vectorized: 3 to 15 times faster.
#pragma once
#include <cmath>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__) && !defined(__CUDA_ARCH__)
#if __GLIBC_PREREQ(2, 35)
extern "C" {
__attribute__((simd("notinbranch"))) float expf(float) noexcept;
__attribute__((simd("notinbranch"))) double exp(double) noexcept;
__attribute__((simd("notinbranch"))) float tanhf(float) noexcept;
__attribute__((simd("notinbranch"))) double tanh(double) noexcept;
__attribute__((simd("notinbranch"))) float erfcf(float) noexcept;
__attribute__((simd("notinbranch"))) double erfc(double) noexcept;
}
#endif
#endif
