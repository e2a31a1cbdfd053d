// models/links.h - which links a transfer between two memories takes, from a machine's platform.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "models/machine.h"
#include "models/platform.h"

namespace tessera {

// Links are numbered as they are first seen; host memory is "RAM", that of GPU 0 "CUDA0".
class Links {
 public:
    explicit Links(Platform platform) : platform_(std::move(platform)) {}
    // Without a machine, or if it has no platform, every pair has a link of its own.
    explicit Links(const Machine*);

    // Where the platform has no such route: one link of the given rate, or none for 0.
    std::vector<int> between(const std::string& from, const std::string& to, double otherwise_bytes_per_s);

    std::vector<double> bytes_per_s;  // of each link seen so far

 private:
    int number(const std::string& id, double rate);
    Platform platform_;
    std::map<std::string, int> known_;
};

}  // namespace tessera
