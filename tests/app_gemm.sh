#!/usr/bin/env bash
# Products in memory, from files and on disk are right (--verify checks in double); what cannot be is one clear line, and
# no file is left under its final name.
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
begin "$@"
source "$source/tests/app_json.sh.inc"
gemm=("$program" gemm)

# npy FILE ROWS COLS [TYPE [ORDER]]: a matrix of zeros and one row of bytes that are finite numbers.
npy() {
  local header="{'descr': '${4:-<f4}', 'fortran_order': ${5:-False}, 'shape': ($2, $3), }" size
  [[ ${4:-<f4} == "<f8" ]] && size=8 || size=4
  printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "$header" >"$1"
  head -c $(($2 * $3 * size)) /dev/zero >>"$1"
}

for shape in "--n 1" "--m 300 --n 7 --k 65" "--m 65 --n 300 --k 130 --ta" "--m 65 --n 130 --k 300 --tb --alpha -1" \
  "--n 200 --ta --tb --beta 0.5" "--n 150 --dtype f64 --beta 1" "--n 150 --dtype bf16 --tile 64" "--n 300 --tile 64 --repeat 2 --beta -1"; do
  # shellcheck disable=SC2086
  expect_ok "${gemm[@]}" $shape --verify --json && expect "$shape: verified" grep -q '"verified":"every element' out.txt
done
expect "the error is a part of the allowance" grep -qE 'largest error / allowed = [0-9]\.[0-9]e-[0-9]+ \([0-9.e-]+ / [0-9.e+-]+ in an element of C\)' out.txt
expect_ok "${gemm[@]}" --n 1100 --verify --json && expect "large ones by Freivalds' check" grep -q '"verified":"Freivalds' out.txt
for policy in reuse list lws dmdas eager; do
  STARPU_SCHED=$policy expect_ok "${gemm[@]}" --n 260 --tile 64 --beta 1 --verify || true
done
expect_ok "${gemm[@]}" --n 200 --alpha 0 --beta 2 --verify --json
for key in gflops bound bound_kind efficiency q; do expect "no $key without work" grep -q "\"$key\":null" out.txt; done
expect "nor in the table" not grep -qE 'GFLOP|efficiency|traffic|share' <(grep -v '^{' out.txt)
expect_ok "${gemm[@]}" --n 200 --repeat 2 && expect "a line for each product" test "$(grep -cE '^product [12] of 2: [0-9.]+ .?s$' err.txt)" = 2
expect_ok "${gemm[@]}" --n 200 --repeat 2 --quiet && expect "none with --quiet" test ! -s err.txt
expect_ok "${gemm[@]}" --n 200 --tile 64 --plain --verify --trace t.json --gantt g.svg && expect "a trace" test -s t.json -a -s g.svg

# No product takes less time than the fastest of its tasks would on all cores, nor its bytes less than the disk's rate.
not_above_1() { expect "$1: efficiency $(json_value efficiency out.txt) is not above 1" is_true "$(json_value efficiency out.txt) <= 1.000001 && $(json_value bound out.txt) > 0"; }
mkdir -p thin
for shape in "--n 1" "--n 2" "--n 17" "--n 100" "--m 2 --n 2 --k 30000" "--m 1 --n 500 --k 1"; do
  # shellcheck disable=SC2086
  { expect_ok "${gemm[@]}" $shape --repeat 15 --json && not_above_1 "$shape"
    expect_ok "${gemm[@]}" $shape --repeat 3 --json --host-memory 1M --swap thin && not_above_1 "$shape on disk"; }
done

expect_ok "${gemm[@]}" --m 2 --n 2 --k 300000 --json --dag-stats && expect "what one core computes is one task" grep -q ': 1 tasks' out.txt

# --- files ---
npy a.npy 40 30; npy b.npy 30 20; npy d.npy 40 30 '<f8'; npy fortran.npy 40 30 '<f4' True
expect_ok "${gemm[@]}" --a a.npy --b b.npy --out c.npy --verify && expect "the result is there" test "$(stat -c %s c.npy)" = $((128 + 40 * 20 * 4))
expect_ok "${gemm[@]}" --a a.npy --ta --b a.npy --out square.npy || true
mkdir swap
expect_ok "${gemm[@]}" --a a.npy --b b.npy --out c2.npy --verify --host-memory 1M --swap swap && expect "the same on disk" cmp c.npy c2.npy
head -c 100 a.npy >cut.npy; head -c -4 a.npy >short.npy
expect_error 1 "'?cut.npy" "${gemm[@]}" --a cut.npy --b b.npy
expect_error 1 "'?short.npy" "${gemm[@]}" --a short.npy --b b.npy
expect_error 1 "'?fortran.npy" "${gemm[@]}" --a fortran.npy --b b.npy
expect_error 2 "d.npy.*f64" "${gemm[@]}" --a d.npy --b b.npy
expect_error 2 "30.*40|40.*30" "${gemm[@]}" --a a.npy --b a.npy
expect_error 2 "--m 7" "${gemm[@]}" --a a.npy --b b.npy --m 7
npy none.npy 0 30; expect_error 2 "'none.npy' holds an empty matrix, of 0 x 30" "${gemm[@]}" --a none.npy --n 10
expect_error 1 "nix.npy" "${gemm[@]}" --a nix.npy --n 10
expect_error 1 "nodir" "${gemm[@]}" --n 10 --out nodir/c.npy
expect_error 2 "bf16" "${gemm[@]}" --n 10 --dtype bf16 --out c3.npy
expect "no output of what failed" test ! -e c3.npy -a -z "$(find . -name '*.tmp-*')"

cp a.npy input.npy
for flag in --trace --gantt --dag; do expect_error 2 "'./a.npy', which this run reads" "${gemm[@]}" --a a.npy --b b.npy $flag ./a.npy; done
expect_error 2 "'b.npy', which this run reads" "${gemm[@]}" --a a.npy --b b.npy --trace b.npy
expect "inputs are as they were" cmp a.npy input.npy
npy e.npy 20 20; expect_ok "${gemm[@]}" --a e.npy --b e.npy --out e.npy --verify || true  # read before it is replaced

# C of alpha 0, beta 1 is what was generated; doubles that were floats end with 29 bits of zeros.
expect_ok "${gemm[@]}" --n 20 --dtype f64 --alpha 0 --beta 1 --out generated.npy &&
  expect "generated doubles have full mantissas" is_true "$(tail -c +129 generated.npy | od -An -v -tu4 -w8 | awk '$1 % 2^29' | wc -l) >= 390"

# --- on disk ---
for shape in "--n 700" "--m 500 --n 300 --k 900 --ta --beta 0.5" "--m 300 --n 700 --k 200 --tb --alpha 2" "--n 600 --dtype f64"; do
  # shellcheck disable=SC2086
  expect_ok "${gemm[@]}" $shape --host-memory 2M --swap swap --verify --json &&
    expect "$shape: tiles stay below the limit" test "$(sed -nE '$s/.*"sum":([0-9]+).*/\1/p' out.txt)" -le $((2 << 20))
done
for policy in dmda dmdas modular-eager modular-heft pheft heteroprio peager list; do  # those that count ended tasks, too
  expect_ok env STARPU_SCHED=$policy "${gemm[@]}" --n 300 --tile 64 --host-memory 1M --swap swap --beta 2 --repeat 2 --verify || true
done
expect_ok "${gemm[@]}" --n 300 --host-memory 1M --swap swap --beta 2 --repeat 2 --out kept.npy --verify || true
expect "C that is read and written comes out, too" test "$(stat -c %s kept.npy)" = $((128 + 300 * 300 * 4))
expect_ok "${gemm[@]}" --n 300 --beta 2 --out memory.npy --tile 100 || true
expect_ok "${gemm[@]}" --n 300 --tile 100 --dag dag.dot --dag-stats && expect "27 tasks" grep -q "27 tasks" out.txt
expect_ok env -u STARPU_NCUDA "${gemm[@]}" --n 700 --compute tf32 --host-memory 2M --swap swap --verify || true
expect "nothing is left in the swap folder" test -z "$(find swap -mindepth 1)"
# The least limit that is named runs, and one less does not.
for shape in "--n 1400 --tile 700" "--n 1024 --tile 512" "--m 1024 --n 512 --k 2048 --tile 512 --dtype f64" "--n 1100 --dtype f64 --tile 550 --ta" "--n 900 --k 9000"; do
  # shellcheck disable=SC2086
  expect_error 1 "least that works" "${gemm[@]}" $shape --host-memory 1M --swap swap
  least=$(sed -nE 's/^hint: the least that works is ([0-9]+)M.*/\1/p' err.txt)
  # shellcheck disable=SC2086
  { expect_ok "${gemm[@]}" $shape --host-memory "${least}M" --swap swap --quiet || true
    expect_error 1 "least that works is ${least}M" "${gemm[@]}" $shape --host-memory $((least - 1))M --swap swap; }
done
expect_error 1 "nodir" "${gemm[@]}" --n 700 --host-memory 2M --swap nodir
expect_error 2 "--swap" "${gemm[@]}" --n 700 --host-memory 2M
expect_error 1 "free" "${gemm[@]}" --n 2000000 --host-memory 1G --swap swap

# --- what is interrupted leaves nothing, and what is killed is removed by the next ---
interrupted() {  # SIGNAL: a product of minutes, in whose time there is a temporary file
  "${gemm[@]}" --n 3000 --repeat 500 --out gone.npy >out.txt 2>err.txt </dev/null & local victim=$! i
  for i in $(seq 300); do compgen -G 'gone.npy.tmp-*' >/dev/null && break; sleep 0.1; done
  expect "there is a temporary file before $1" test -n "$(compgen -G 'gone.npy.tmp-*')"
  kill -"$1" $victim; wait $victim || true
  expect "$1 leaves nothing under the final name" test ! -e gone.npy
}
for signal in TERM HUP; do
  interrupted $signal
  expect "$signal leaves no temporary file" test -z "$(compgen -G 'gone.npy.tmp-*')"
done
interrupted KILL
expect_ok "${gemm[@]}" --n 10 --out gone.npy && expect "what was killed is gone after the next run" test -z "$(compgen -G 'gone.npy.tmp-*')"

# --- flags ---
expect_error 2 "--n" "${gemm[@]}"
expect_error 2 "--n" "${gemm[@]}" --n 0
expect_error 2 "--m" "${gemm[@]}" --n 10 --m -1
expect_error 2 "more bytes" "${gemm[@]}" --n 4611686018427387904
expect_error 1 "the matrices need [0-9]+ MiB of memory|allocating" "${gemm[@]}" --n 100000 --k 2000000
expect_error 2 "--tile" "${gemm[@]}" --n 10 --tile 0
expect_error 2 "--plain does not go with --host-memory" "${gemm[@]}" --n 700 --plain --host-memory 2M --swap swap
expect_error 2 "two outputs .*'same'" "${gemm[@]}" --n 10 --out same --trace same
expect_error 2 "--alpha nan is not a finite" "${gemm[@]}" --n 10 --alpha nan
for type in f32 bf16; do for value in 1e39 -1e39 inf; do expect_error 2 "--beta .* is not a finite number in f32" "${gemm[@]}" --n 10 --dtype $type --beta=$value; done; done
expect_error 2 "--alpha 1e\+39 is not" "${gemm[@]}" --n 10 --alpha 1e39 --beta 0
expect_ok "${gemm[@]}" --n 10 --dtype f64 --alpha 1e39 --beta 1e39 --verify || true
expect_error 2 "in f64" "${gemm[@]}" --n 10 --dtype f64 --beta inf
expect_error 2 "tf32" "${gemm[@]}" --n 10 --compute tf16
expect_error 2 "tf32" "${gemm[@]}" --n 10 --dtype f64 --compute tf32
expect_error 2 "i32" "${gemm[@]}" --n 10 --dtype i32
finish
