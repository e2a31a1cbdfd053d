// apps/peaks.h - what the CPU cores of this machine do at best, all of them busy: products and a triad. Per core.
#pragma once

namespace tessera {

struct Peaks {
    int cores = 0;
    double f32_gflops = 0, f64_gflops = 0;  // of one core: the best product of 768 x 768 matrices
    double gbytes_per_s = 0;                // a[i] = b[i] + s c[i] on arrays beyond the caches: 24 bytes an element
};

// About `seconds`, on the cores that this process may use. Not while StarPU's workers run.
Peaks measure_peaks(double seconds);

}  // namespace tessera
