#!/usr/bin/env bash
# Size and tidiness of the tree: see tools/check_tree. usage: bash tree_size.sh PROGRAM SOURCE_DIR SCRATCH_DIR
set -euo pipefail
cd "$2"
exec bash tools/check_tree
