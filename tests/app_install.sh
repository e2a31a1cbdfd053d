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
