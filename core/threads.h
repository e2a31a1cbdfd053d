// core/threads.h - work in threads whose exceptions reach the caller: one that leaves a std::thread ends the program.
#pragma once
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

namespace tessera {

// body(i) for every i in [0, count), each in a thread of its own; returns when all have ended. failed(i) is called
// where body(i) threw or its thread could not be started, so that the others need not wait for it. Rethrows the first
// exception, by i.
template <class Body, class Failed>
void in_threads(int64_t count, const Body& body, const Failed& failed) {
    std::vector<std::exception_ptr> failures(static_cast<size_t>(count));
    const auto note = [&](int64_t i) {
        failures[size_t(i)] = std::current_exception();
        failed(i);
    };
    const auto run = [&](int64_t i) {
        try {
            body(i);
        } catch (...) { note(i); }
    };
    {
        std::vector<std::jthread> threads;
        threads.reserve(static_cast<size_t>(count));
        for (int64_t i = 0; i < count; ++i) try {
                threads.emplace_back(run, i);
            } catch (...) { note(i); }
    }
    for (const auto& failure : failures)
        if (failure) std::rethrow_exception(failure);
}

template <class Body>
void in_threads(int64_t count, const Body& body) {
    in_threads(count, body, [](int64_t) {});
}

}  // namespace tessera
