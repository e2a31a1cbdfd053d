#!/usr/bin/env bash
# Every tracked C++ and CUDA file is as clang-format 14 writes it. usage: bash tree_format.sh PROGRAM SOURCE_DIR SCRATCH_DIR
set -euo pipefail
command -v clang-format-14 >/dev/null || { echo 'SKIPPED: clang-format-14 is not installed'; exit 77; }
cd "$2"
git rev-parse --is-inside-work-tree >/dev/null 2>&1 || { echo 'SKIPPED: not a git working tree'; exit 77; }
mapfile -t files < <(git ls-files '*.cpp' '*.h' '*.cu')
[ ${#files[@]} -gt 0 ] || { echo 'SKIPPED: no tracked files'; exit 77; }
bad=0
for file in "${files[@]}"; do
  [ -f "$file" ] || continue  # deleted in the working tree
  clang-format-14 --dry-run --Werror "$file" >/dev/null 2>&1 || { echo "FAIL: $file (clang-format-14 -i $file)"; bad=$((bad + 1)); }
done
echo "tree_format.sh: ${#files[@]} files, $bad not formatted"
[ $bad = 0 ]
