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
emulated=$(ninja -C "$build" -t commands op_emulated_test)
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
compile() {  # COMMANDS FILE AS OBJECT: FILE of the copy by the command that compiles AS, whose own object stays as it is
  local command object
  command="$(grep -F -- " -c $source/$3" <<<"$1" | head -n 1) "
  object=$(sed -nE 's/.* -o ([^ ]+) .*/\1/p' <<<"$command")
  [ -n "$object" ] || { fail "no command compiles $3"; return; }
  command=${command//"$object"/$4}
  command=${command/" -c $source/$3 "/ -c $copy/$2 }
  command=${command//"-I$source "/-I$copy }
  eval "$command" >>"$scratch/build.log" 2>&1 || fail "$1 does not compile (build.log)"
}
objects=()
for file in $files; do
  object=$scratch/$(basename "$file").o
  objects+=("$object")
  case $file in
    *.cu)
      compile "$commands" "$file" codelets/relu.cu "$object" &
      compile "$emulated" "$file" codelets/relu.cu "${object%.o}.emulated.o" &
      ;;
    *) compile "$commands" "$file" tests/ops/elementwise_test.cpp "$object" & ;;
  esac
done
wait
ops=() emulated_ops=() tests=()
for object in "${objects[@]}"; do
  case $object in *.cu.o) ops+=("$object") emulated_ops+=("${object%.o}.emulated.o") ;; *) tests+=("$object") ;; esac
done
for object in "${objects[@]}" "${emulated_ops[@]}"; do expect "$(basename "$object") was compiled" test -s "$object"; done
link() {  # COMMANDS OUTPUT NEW OBJECT...: the command that links OUTPUT, with these objects too
  local command
  command=$(grep -E -- " -o $2 " <<<"$1" | tail -n 1)
  [ -n "$command" ] || { fail "no command links $2"; return; }
  eval "${command/" -o $2 "/" -o $3 ${*:4} "}" >>"$scratch/build.log" 2>&1 || fail "$3 is not linked (build.log)"
}
link "$commands" tests/op_test "$scratch/op_test" "${ops[@]}" "${tests[@]}"
link "$emulated" tests/op_emulated_test "$scratch/op_emulated_test" "${emulated_ops[@]}" "${tests[@]}"
link "$commands" tessera "$scratch/tessera-with-ops" "${ops[@]}"
cd "$scratch"
[ "$failures" = 0 ] || { tail -n 20 build.log; finish; exit; }

# --- and run ---
for runner in op_test op_emulated_test; do
  expect_ok ./$runner --gtest_filter='softsign.*:average*' &&
    expect "$runner: four checks of three cases in three types ran" grep -q 'PASSED.* 36 tests' out.txt
done
expect_ok ./tessera-with-ops ops
for op in softsign softsign_backward average; do expect "'tessera ops' lists $op" grep -qE "^$op " out.txt; done
expect "it lists both of average's implementations" sh -c "grep -A 2 '^average ' out.txt | grep -q 'by element.*by row'"
expect_ok ./op_test --perf softsign && expect "--perf shows its speed" grep -q '^softsign .*softsign_f32' out.txt
finish
