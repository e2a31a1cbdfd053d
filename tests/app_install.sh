#!/usr/bin/env bash
# The installed library serves projects outside the tree: find_package(Tessera) builds and runs both examples.
# usage: app_install.sh PROGRAM SOURCE SCRATCH
set -euo pipefail
program=$1 source=$2 scratch=$3
rm -rf "$scratch"; mkdir -p "$scratch"
cmake --install "$(dirname "$program")" --prefix "$scratch/install" >"$scratch/install.log" 2>&1 || { tail "$scratch/install.log"; exit 1; }
"$scratch/install/bin/tessera" --version
for example in xor own_op; do
  # A copy, so that nothing can be found beside it.
  cp -r "$source/examples/$example" "$scratch/$example"
  cmake -S "$scratch/$example" -B "$scratch/$example/build" -DCMAKE_PREFIX_PATH="$scratch/install" -DCMAKE_BUILD_TYPE=Release >"$scratch/$example.log" 2>&1 &&
    cmake --build "$scratch/$example/build" >>"$scratch/$example.log" 2>&1 || { tail -n 20 "$scratch/$example.log"; exit 1; }
  "$scratch/$example/build/$example"
done

# The example of docs/gemm.md, as it stands there, in a program that checks its result.
mkdir -p "$scratch/gemm"
{
  echo '#include <cstdio>'
  awk '/^```cpp/ { on = 1; next } /^```/ { if (on) exit } on && /^#include/' "$source/docs/gemm.md"
  echo 'int main() {'
  awk '/^```cpp/ { on = 1; next } /^```/ { if (on) exit } on && !/^#include/' "$source/docs/gemm.md"
  echo 'for (float x : c) if (x != float(k)) { std::printf("wrong: %g\n", x); return 1; }'
  echo 'std::puts("gemm: every element is right"); }'
} >"$scratch/gemm/main.cpp"
sed 's/own_op\.cpp/main.cpp/; s/own_op/gemm/g' "$source/examples/own_op/CMakeLists.txt" >"$scratch/gemm/CMakeLists.txt"
cmake -S "$scratch/gemm" -B "$scratch/gemm/build" -DCMAKE_PREFIX_PATH="$scratch/install" -DCMAKE_BUILD_TYPE=Release >"$scratch/gemm.log" 2>&1 &&
  cmake --build "$scratch/gemm/build" >>"$scratch/gemm.log" 2>&1 || { tail -n 20 "$scratch/gemm.log"; exit 1; }
"$scratch/gemm/build/gemm"
