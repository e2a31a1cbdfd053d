# cmake/compiler_flaws.cmake - sets `flaw_options`: what keeps this compiler from writing wrong code for this machine.
include(CheckCXXSourceRuns)

# GCC 12 takes the 256-bit constant {2, 2, 0, 0} for {2, 2, 2, 2} where AVX-512 could broadcast it and a struct is passed
# by value: the wide integer's leading zeros are not stored, and it compares only what is. 128-bit moves have no such case.
set(CMAKE_REQUIRED_FLAGS "-O3 -march=native")
check_cxx_source_runs("
  struct Pair { long a = 1, b = 1; constexpr Pair(long both) : a(both), b(both) {} };
  struct Options { Pair given = 1, left = 0; bool flags[2] = {}; };
  __attribute__((noinline)) long left(Options o) { asm(\"\"); return o.left.a + o.left.b; }
  int main() { return left({.given = 2}) != 0; }" TESSERA_WIDE_CONSTANTS_ARE_RIGHT)
unset(CMAKE_REQUIRED_FLAGS)
if(NOT TESSERA_WIDE_CONSTANTS_ARE_RIGHT)
  set(flaw_options -mmove-max=128 -mstore-max=128)
endif()
