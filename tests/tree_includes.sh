#!/usr/bin/env bash
# The rooms' order: core <- codelets, data, models <- graphs <- apps. No #include against it.
# usage: bash tree_includes.sh PROGRAM SOURCE_DIR SCRATCH_DIR (the program is not run)
set -euo pipefail
cd "$2"
bad=0
# room FOLDER "allowed prefixes": what a quoted or angle include of one of our folders may begin with.
room() {
  local folder=$1 allowed=$2 found
  [ -d "$folder" ] || return 0
  found=$(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<](core|codelets|data|models|graphs|schedulers|apps|tests|bench|examples|tools)/|^[[:space:]]*#[[:space:]]*include[[:space:]]*"' \
    --include='*.cpp' --include='*.h' --include='*.cu' "$folder" | grep -vE "include[[:space:]]*[\"<]($allowed)" || true)
  [ -z "$found" ] && return 0
  echo "FAIL: $folder may include $allowed only"; sed 's/^/  /' <<<"$found"; bad=1
}
room core 'core/'
room codelets 'core/|codelets/'
room data 'core/|data/'
room models 'core/|models/'
room graphs 'core/|codelets/|data/|graphs/'
room schedulers 'core/(scheduler|pieces)\.h"|schedulers/'
room apps 'core/|codelets/|data/|models/|graphs/|apps/'
# What policies include must not draw in the rest of core.
for header in core/scheduler.h core/pieces.h; do
  if grep -nE '#[[:space:]]*include[[:space:]]*"' $header; then echo "FAIL: $header includes ours"; bad=1; fi
done
while IFS= read -r header; do
  grep -q '^#pragma once$' "$header" || { echo "FAIL: $header has no #pragma once"; bad=1; }
done < <(find core codelets data models graphs schedulers apps tests -name '*.h' 2>/dev/null | sort)
[ $bad = 0 ] && echo "tree_includes.sh: every include follows the rooms' order"
exit $bad
