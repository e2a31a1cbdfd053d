// tests/fuzz/fuzz_cifar.cpp - CIFAR-10 and CIFAR-100 records.
#include "data/cifar.h"
#include "tests/fuzz/only_errors.h"

using namespace tessera;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::span<const uint8_t> bytes(data, size);
    for (const Cifar& kind : {cifar10, cifar100})
        only_errors([&] {
            Dataset set;
            parse_cifar(bytes, "fuzz", kind, set);
            parse_cifar(bytes, "fuzz", kind, set);
            set.check();
        });
    return 0;
}
