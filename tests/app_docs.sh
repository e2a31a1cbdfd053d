#!/usr/bin/env bash
# The documentation that the program writes is the documentation that is there.
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
begin "$@"
expect_ok "$program" environment && {
  cp out.txt environment.md
  expect "docs/environment.md is what 'tessera environment' prints (write it anew)" diff "$source/docs/environment.md" environment.md
  expect "'tessera environment' writes nothing to stderr" test ! -s err.txt
  # Every variable that the sources read is on the page.
  for name in $(grep -rhoE 'TESSERA_[A-Z]+(_[A-Z]+)*' "$source"/core/config.cpp | sort -u); do
    expect "$name is on the page" grep -q "\`$name\`" environment.md
  done
}
expect_ok "$program" ops && {
  cp out.txt ops.txt
  # What ops.h declares under another name than its codelets', or composes of other ops.
  composed=' gemm:gemm gemm_into:gemm linear:linear activate: gradients: cast:cast adamw:adam assign:copy clip_by_global_norm:clip argmax:argmax concat: split: global_avg_pool2d:adaptive_avg_pool2d '
  for name in $(grep -oE '^(Tensor|Maps|void|std::vector<(Tensor|Maps)>) [a-z_0-9]+\(' "$source/codelets/ops.h" | sed -E 's/.* ([a-z_0-9]+)\($/\1/' | sort -u); do
    want=$name
    [[ $composed =~ \ $name:([a-z_0-9]*)\  ]] && want=${BASH_REMATCH[1]}
    [ -z "$want" ] || expect "'tessera ops' lists $name" grep -qE "^$want" ops.txt
  done
  expect "every op has a formula" awk '/^[^ ]/ && NF < 2 { bad = 1 } END { exit bad }' ops.txt
  expect "every op has types and implementations" awk '/^ / { n += /CPU: / } /^[^ ]/ { m++ } END { exit !(m > 50 && n == m) }' ops.txt
  expect "its lines fit a terminal" awk 'length($0) > 120 { bad = 1 } END { exit bad }' ops.txt
}
expect_ok "$program" ops --json && expect "ops --json is one array" grep -qE '^\[\{.*\}\]$' out.txt
finish
