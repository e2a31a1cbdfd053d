// tests/fuzz/only_errors.h - what a parser may do with damaged input: throw tessera::Error of one line, nothing else.
#pragma once
#include <cstdlib>
#include <cstring>

#include "core/error.h"

template <class Action>
void only_errors(Action action) {
    try {
        action();
    } catch (const tessera::Error& e) {
        if (std::strchr(e.what(), '\n')) std::abort();
    }
}
