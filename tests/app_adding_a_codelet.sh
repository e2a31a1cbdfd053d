#!/usr/bin/env bash
# docs/adding-a-codelet.md, followed literally: its files and lines go into a copy of the tree, are compiled by the
# commands of the build that is there, and its tests and operations run.
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
begin "$@"
build=$(dirname "$program") page=$source/docs/adding-a-codelet.md copy=$scratch/tree
[ -f "$build/build.ninja" ] && command -v ninja >/dev/null || skip "no Ninja build in $build to take commands from"
git -C "$source" rev-parse --git-dir >/dev/null 2>&1 || skip "$source is not a git checkout"
commands=$(ninja -C "$build" -t commands op_test tessera-program)
mkdir "$copy"
cd "$source"
git ls-files -z --cached --others --exclude-standard -- '*.h' '*.cu' '*.cpp' | xargs -0 cp --parents -t "$copy"
cd "$scratch"

# --- what the page says to write ---
files=$(sed -n 's/^File: //p' "$page")
awk -v root="$copy" '
  /^File: / { path = root "/" $2 }
  /^```/ { if (inside) { close(path); path = "" } inside = !inside && path; next }
  inside { print > path }' "$page"
while IFS=$'\t' read -r path anchor line; do
  expect "$path has the line '$anchor' once" test "$(grep -cF "$anchor" "$copy/$path")" = 1
  awk -v anchor="$anchor" -v line="$line" '{ print } index($0, anchor) == 1 { print line }' "$copy/$path" >changed
  mv changed "$copy/$path"
done < <(awk '/^Line for / { split($0, part, "`"); path = $3; sub(",", "", path); anchor = part[2]; next }
  /^```/ { inside = !inside && anchor; next }
  inside { print path "\t" anchor "\t" $0; anchor = "" }' "$page")
for file in $files; do expect "$file is new" test ! -e "$source/$file" -a -s "$copy/$file"; done
expect "ops.h got two lines" test "$(diff "$source/codelets/ops.h" "$copy/codelets/ops.h" | grep -c '^[<>]')" = 2
# Excerpts are what the files say.
awk '
  /^From: / { path = $2; next }
  /^```/ { if (inside) path = ""; inside = !inside && path; next }
  inside { print path "\t" $0 }' "$page" >excerpts
expect "the page quotes three lines" test "$(wc -l <excerpts)" = 3
while IFS= read -r quoted; do
  expect "${quoted%%$'\t'*} holds the quoted line" grep -qxF -- "${quoted#*$'\t'}" "$source/${quoted%%$'\t'*}"
done <excerpts

# --- compiled as a file of its kind that is there ---
cd "$build"
compile() {  # FILE AS OBJECT: FILE of the copy by the command that compiles AS, whose own object stays as it is
  local command object
  command="$(grep -F -- " -c $source/$2" <<<"$commands" | head -n 1) "
  object=$(sed -nE 's/.* -o ([^ ]+) .*/\1/p' <<<"$command")
  [ -n "$object" ] || { fail "no command compiles $2"; return; }
  command=${command//"$object"/$3}
  command=${command/" -c $source/$2 "/ -c $copy/$1 }
  command=${command//"-I$source "/-I$copy }
  command=${command//"$source/tests/"/$copy/tests/}
  eval "$command" >>"$scratch/build.log" 2>&1 || fail "$1 does not compile (build.log)"
}
objects=()
for file in $files; do
  object=$scratch/$(basename "$file").o
  objects+=("$object")
  case $file in
    *.cu) compile "$file" codelets/relu.cu "$object" & ;;
    *) compile "$file" tests/ops/elementwise_test.cpp "$object" & ;;
  esac
done
wait
for object in "${objects[@]}"; do expect "$(basename "$object") was compiled" test -s "$object"; done
link() {  # OUTPUT NEW: the command that links OUTPUT, with all new objects
  local command
  command=$(grep -E -- " -o $1 " <<<"$commands" | tail -n 1)
  [ -n "$command" ] || { fail "no command links $1"; return; }
  eval "${command/" -o $1 "/" -o $2 ${objects[*]} "}" >>"$scratch/build.log" 2>&1 || fail "$2 is not linked (build.log)"
}
ops=()
for object in "${objects[@]}"; do [[ $object == *.cu.o ]] && ops+=("$object"); done
link tests/op_test "$scratch/op_test"
objects=("${ops[@]}")  # the program has no tests
link tessera "$scratch/tessera-with-ops"
cd "$scratch"
[ "$failures" = 0 ] || { tail -n 20 build.log; finish; exit; }

# --- and run ---
expect_ok ./op_test --gtest_filter='softsign.*:average*' &&
  expect "four checks of three cases in three types ran" grep -q 'PASSED.* 36 tests' out.txt
expect_ok ./tessera-with-ops ops
for op in softsign softsign_backward average; do expect "'tessera ops' lists $op" grep -qE "^$op " out.txt; done
expect "it lists both of average's implementations" sh -c "grep -A 2 '^average ' out.txt | grep -q 'by element.*by row'"
expect_ok ./op_test --perf softsign && expect "--perf shows its speed" grep -q '^softsign .*softsign_f32' out.txt
finish
