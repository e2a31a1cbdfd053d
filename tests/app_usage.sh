#!/usr/bin/env bash
# Help, version and every kind of wrong flag, value and variable: exit 2 (or 1), one clear line, a suggestion.
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
begin "$@"
train() { "$program" train mlp --data digits:200 --batch 50 --epochs 1 --quiet "$@"; }
bad() { expect_error 2 "$1" "$program" train mlp --data digits:200 "${@:2}"; }       # pattern, flags
bad_env() { expect_error "$1" "$2" env "${@:3}" "$program" train mlp --data digits:200 --epochs 1; }  # code, pattern, A=B

# --- help and version ---
for command in "" train ops bench "bench overhead" "bench gemm" environment; do
  # shellcheck disable=SC2086
  if expect_ok "$program" $command --help; then
    expect "help of '$command' shows its usage" grep -q 'Usage: ' out.txt
    expect "help of '$command' writes nothing to stderr" test ! -s err.txt
  fi
done
expect_ok "$program" --help && for c in train ops bench environment; do expect "help names $c" grep -qE "^ +$c " out.txt; done
expect_ok "$program" train mlp --help && for flag in data validation epochs batch optimizer lr momentum nesterov weight-decay \
  clip schedule label-smoothing dropout dtype tile hidden activation checkpoint every resume metrics plot gpu-memory host-memory \
  swap dag dag-stats serial deterministic seed json quiet; do
  expect "train --help mentions --$flag" grep -qE "^ +--$flag( |=|,|$)" out.txt
done
expect "help lines fit a page" test "$(awk '{ if (length($0) > m) m = length($0) } END { print m + 0 }' out.txt)" -lt 160
expect_ok "$program" --version && expect "--version is one line" grep -qxE 'tessera [0-9]+\.[0-9]+\.[0-9]+' out.txt

# --- unknown words ---
expect_error 2 'subcommand|command' "$program"
expect_error 2 "trian.*" "$program" trian mlp
expect_error 2 "did you mean 'train'" "$program" trian mlp
expect_error 2 'zzzzzzz' "$program" zzzzzzz
expect_error 2 'known: .*train' "$program" help
expect_error 2 "did you mean 'gemm'" "$program" bench gem
expect_error 2 "network" "$program" train
expect_error 2 "'extra'" "$program" train mlp extra
expect_error 2 "'extra'" "$program" ops extra
expect_error 2 "'--jsn'" "$program" ops --jsn
expect_error 2 "did you mean 'mlp'" "$program" train mpl
expect_error 2 "known: .*mlp|mlp" "$program" train zzzzzzzzz
bad "'--epoch'" --epoch 3
bad "did you mean '--epochs'" --epoch 3
bad "'--epoch'" --epoch=3
bad "'-z'" -z
for value in 3 0 no yes; do bad "--quiet takes no value" --quiet=$value; done
expect_error 2 "--json takes no value" "$program" gemm --n 10 --json=3
expect_error 2 "--ta takes no value" "$program" gemm --n 10 --ta=false
expect_ok "$program" gemm --n 10 --json --json --n 12 --quiet && expect "the last of several counts" grep -q '"n":12' out.txt
expect_error 2 "--alpha nan is not a finite" "$program" gemm --n 10 --alpha nan
expect_error 2 "--alpha -inf is not a finite" "$program" gemm --n 10 --alpha=-inf
expect_error 2 "--alpha.*ten" "$program" gemm --n 10 --alpha ten
for choice in "optimizer adm adam" "activation rel relu" "schedule cosin cosine" "dtype f23 f32"; do
  read -r flag word meant <<<"$choice"
  bad "$word" --"$flag" "$word"
  bad "$meant" --"$flag" "$word"
  bad "zzzzzzzzz" --"$flag" zzzzzzzzz
  bad "$meant" --"$flag" zzzzzzzzz        # nothing is like it: the hint lists what there is
  bad "." --"$flag" ""
done

# --- numbers: each message names flag and value ---
for flag in epochs batch; do for value in 0 -1 -99999999999 1.5 x '' 99999999999999999999 1e3 nan 0x10; do bad "--$flag.*'?$value'?" --$flag="$value"; done; done
for flag in tile every; do for value in -1 1.5 x 99999999999999999999; do bad "--$flag.*'?$value'?" --$flag="$value" --checkpoint c; done; done
for value in -1 1.5 x; do bad "--seed.*'?$value'?" --seed="$value"; done
expect_ok "$program" train mlp --data digits:200 --epochs 1 --quiet --seed 18446744073709551615
bad '--seed.* at most 18446744073709551615' --seed 18446744073709551616
bad '--clip must be finite' --clip nan
for value in 0 -1 nan inf x 1e999; do bad "--lr.*'?$value'?" --lr="$value"; done
bad '--validation must be in' --validation=-1
for value in 1 -0.1 nan inf x 2; do for flag in momentum dropout label-smoothing validation; do bad "--$flag" --$flag="$value"; done; done
for value in -1 nan x; do for flag in weight-decay clip; do bad "--$flag" --$flag="$value"; done; done
for value in cosine: cosine:-4 step:x constant:1.5 cosine:99999999999 :; do bad 'schedule' --schedule "$value"; done
for value in 0 -5 a 16, ,16 16,,16 '' 1.5 99999999999 '16 16' 16,0; do bad "--hidden '$value'" --hidden "$value"; done
bad '--nesterov' --optimizer adam --nesterov
bad '--nesterov' --momentum 0 --nesterov
bad '--momentum is for sgd' --optimizer adam --momentum 0.5
bad '--epochs' --epochs
expect_error 1 'fc0.weight, [0-9]+ MiB\) needs [0-9]+ MiB of memory' "$program" train mlp --data digits:200 --hidden 999999999  # 3 TB: not a crash

expect_error 1 'more than 10000000 tasks.*with those of fc' "$program" train mlp --data digits:200 --tile 1
expect_error 1 'more than 10000000 tasks' "$program" gemm --n 400 --tile 1

# --- sizes and combinations ---
mkdir swap
for value in 0 -4G 4X 1.5G G '' 99999999999T '4 G'; do
  bad "--gpu-memory.*'$value'" --gpu-memory "$value"
  bad "--host-memory.*'$value'" --host-memory "$value" --swap swap
done
bad '--gpu-memory.*1M' --gpu-memory 1000
bad '--host-memory.*1M' --host-memory 1000 --swap swap
bad '--host-memory needs --swap' --host-memory 64M
bad '--swap .*--host-memory' --swap swap
bad '--resume needs --checkpoint' --resume
bad '--every needs --checkpoint' --every 3

# --- data ---
for value in 'mnst:x' 'digits:0' 'digits:-1' 'digits:x' 'digits:99999999' 'digits:1.5' mnist mnist: npy:a npy: npy:, npy:a,b,c '' :; do
  expect_error 2 "${value:-unknown data}" "$program" train mlp --data "$value"
done
expect_error 2 "did you mean 'mnist'" "$program" train mlp --data mnst:x

# --- variables ---
bad_env 2 "TESSERA_CHECKNAN" TESSERA_CHECKNAN=1
bad_env 2 "did you mean 'TESSERA_CHECK_NAN'" TESSERA_CHECKNAN=1
bad_env 2 'TESSERA_ZZZZZZZZZZ' TESSERA_ZZZZZZZZZZ=1
for value in yes '' 2 ' 1'; do bad_env 2 'TESSERA_CHECK_NAN' TESSERA_CHECK_NAN="$value"; done
for value in 0 65 -1 3x ' 3' '' 99999999999999999999; do bad_env 2 'TESSERA_STEPS_IN_FLIGHT' TESSERA_STEPS_IN_FLIGHT="$value"; done
for value in lots '' -1 0; do bad_env 2 'TESSERA_WORKSPACE' TESSERA_WORKSPACE="$value"; done
bad_env 2 'TESSERA_CACHE' TESSERA_CACHE=
touch file
bad_env 1 "$scratch/file" TESSERA_CACHE="$scratch/file"
bad_env 1 "$scratch/file/x" TESSERA_CACHE="$scratch/file/x"
bad_env 2 'dmdass' STARPU_SCHED=dmdass
bad_env 2 "did you mean 'dmdas'" STARPU_SCHED=dmdass
bad_env 2 'zzzzzzzzz' STARPU_SCHED=zzzzzzzzz
bad_env 2 'STARPU_SCHED_LIB' STARPU_SCHED_LIB="$scratch/file"
bad_env 1 'no worker' STARPU_NCPU=0
bad_env '[12]' 'STARPU_NCPU' STARPU_NCPU=many

# --- variables of StarPU that it would stop at with a backtrace ---
for value in NCPU=-3 NCUDA=-1 NWORKER_PER_CUDA=0 NWORKER_PER_CUDA=999999 WORKERS_CPUID=abc HOSTNAME=a/b HOSTNAME=.. HOSTNAME=-x "HOSTNAME=a b" HOSTNAME=; do
  bad_env 2 "STARPU_${value%%=*}='${value#*=}'" STARPU_"$value"
done
bad_env 1 'characters; StarPU takes [0-9]+' TESSERA_CACHE="$scratch/$(printf 'x%.0s' {1..200})"
bad "--streams" --streams 100

# --- a closed descriptor is not the next file's ---
short=("$program" train mlp --data digits:200 --batch 50 --epochs 1 --quiet --json)
if expect_ok "${short[@]}" --metrics open.jsonl && expect_ok bash -c '"$@" >&- 2>&-' - "${short[@]}" --metrics closed.jsonl; then
  expect "only metrics are in the file for metrics" test "$(wc -l <closed.jsonl)" = "$(wc -l <open.jsonl)"
fi

# --- an empty file of the bus, as a full disk leaves it; not in the cache of tests that run beside ---
export TESSERA_CACHE=$scratch/cache
expect_ok "${short[@]}" || true
for file in "$TESSERA_CACHE"/machines/*/bus/*.affinity; do :; done
cp "$file" affinity
: >"$file"
expect_ok "${short[@]}" && expect "it is told" grep -q "affinity' is empty; it is now" err.txt
expect "and written again" cmp -s affinity "$file"
finish
