#!/usr/bin/env bash
# Whole programs on GPUs that are not there (tests/emulated_devices): the same losses as on cores, on one and on several,
# with memory enough and short; products; calibration; what goes wrong on a device is one clear line.
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
source "$(dirname "$0")/app_json.sh.inc"
begin "$@"
emulated=$(dirname "$program")/tessera-emulated
[ -x "$emulated" ] || skip "StarPU was built without CUDA: it has no GPUs to emulate"
cpu=("$program") program=$emulated
export STARPU_NCPU=0 TESSERA_CACHE=$scratch/cache  # emulated machines are no one else's
unset STARPU_NCUDA STARPU_HOSTNAME
on_gpus() { local n=$1; shift; echo env EMULATED_GPUS="$n" "$emulated" "$@"; }

# --- training ---
small=(train mlp --data digits:200 --batch 50 --hidden 300,200 --tile 128 --epochs 1 --quiet --json)
expect_ok env STARPU_NCPU=1 STARPU_NCUDA=0 "${cpu[@]}" "${small[@]}" --metrics cores.jsonl && losses cores.jsonl >cores.txt
expect "four steps were taken" test "$(wc -l <cores.txt)" = 4
same_losses() {  # WHAT: as on cores, but for rounding
  losses run.jsonl >run.txt
  expect "$1: the losses are those of cores" awk 'NR == FNR { of[$1] = $2; n++; next }
    { m++; d = $2 - of[$1]; if (!(d * d < 1e-10)) bad = 1 } END { exit bad || n != m || n == 0 }' cores.txt run.txt
}
train() { rm -f run.jsonl; expect_ok $(on_gpus "$1" "${small[@]}") --metrics run.jsonl "${@:3}" && same_losses "$2"; }
train 1 "one GPU"
expect "the GPU worked" grep -qE '^CUDA 0\.0 .* [0-9.]+ %' out.txt
expect "and nothing else" not grep -qE '^CPU [0-9]' out.txt
train 3 "three GPUs"
train 1 "two streams" --streams 2
train 1 "f32 with little memory" --gpu-memory 2M --streams 1
expect "the traffic that the limit causes is told" grep -qE '^traffic +[0-9.]+ [KMG]iB from CUDA 0 to NUMA 0' out.txt
train 2 "two GPUs with little memory" --gpu-memory 2M --streams 1
mkdir swap
train 1 "little host memory" --host-memory 3M --swap swap --streams 1
train 2 "little memory anywhere" --host-memory 6M --gpu-memory 6M --swap swap --streams 1
for policy in dmdas dmdar lws eager; do STARPU_SCHED=$policy STARPU_NCPU=1 train 2 "$policy, with a core"; done
for run in "0 dmdas" "1 eager" "1 dmdas" "1 ws" "1 random" "1 list" "1 lws" "1 modular-dmdap"; do  # cores round otherwise
  read -r cores policy <<<"$run"
  expect_ok env TESSERA_CACHE="$scratch/without-models.$cores.$policy" STARPU_NCPU="$cores" STARPU_SCHED="$policy" $(on_gpus 2 "${small[@]}") --deterministic --metrics bits.jsonl &&
    losses bits.jsonl >"bits.$cores.$policy"
  expect "deterministic, $cores cores beside GPUs, $policy: the same bits" cmp -s bits.0.dmdas "bits.$cores.$policy"
  rm -f bits.jsonl
done
expect_ok $(on_gpus 1 train lenet5 --data digits:20 --batch 10 --epochs 1 --quiet)

# --- from a GPU to a core ---
resumed=(train mlp --data digits:200 --batch 50 --hidden 64 --checkpoint ck)
expect_ok $(on_gpus 2 "${resumed[@]}" --epochs 1)
expect_ok env STARPU_NCPU=1 STARPU_NCUDA=0 "${cpu[@]}" "${resumed[@]}" --epochs 2 --resume
expect "it goes on after the GPUs' epoch" grep -q '^resumed at step 4 of 8' err.txt

# --- products ---
product=(gemm --m 384 --n 320 --k 448 --tile 64 --verify)
for type in f32 f64 bf16; do
  expect_ok $(on_gpus 3 "${product[@]}" --dtype $type --gpu-memory 1M) && expect "$type: verified" grep -q '^verified' out.txt
done
expect_ok env STARPU_NCPU=1 $(on_gpus 1 "${product[@]}" --ta --tb --alpha -1 --beta 2)

expect_ok $(on_gpus 2 "${product[@]}" --beta 1 --repeat 3)  # C is new each time, where the GPUs have copies

# --- calibration of cores, GPUs, and of pairs side by side ---
expect_ok env STARPU_NCPU=1 $(on_gpus 1 calibrate "${small[@]:0:12}")
expect "pairs were measured" grep -qE '^[0-9]+ combinations? measured' out.txt
expect_ok env STARPU_NCPU=1 $(on_gpus 1 perfmodel show linear_f32)
expect "the GPU has a model" grep -q 'cuda 0' out.txt
STARPU_NCPU=1 train 1 "with models"

# --- jobs with different GPUs measure the bus of one machine again and again ---
together() { EMULATED_GPUS=$1 STARPU_HOSTNAME=shared "$emulated" "${product[@]}" >"job.$1.$2" 2>&1; }
for round in 1 2 3 4 5; do
  for n in 1 2 3; do together $n $round & done
  for job in $(jobs -p); do wait "$job" || fail "a job beside others failed: $(grep -h -m 1 error job.*."$round")"; done
  checks=$((checks + 3))
done
expect "nothing was taken for damaged" not grep -q damaged job.*

# --- what goes wrong ---
expect_error 1 'on CUDA 0.*NaN or infinity' env TESSERA_CHECK_NAN=1 $(on_gpus 1 "${small[@]}" --lr 1e30)
expect_error 1 'GPU 0 has 14 of 1024 MiB free' env EMULATED_GPU_TAKEN_MIB=1010 $(on_gpus 1 "${product[@]}")
expect_error 1 'GPU 1 has 224 of 1024 MiB free.*limit of 500 MiB' env EMULATED_GPU_TAKEN_MIB=800 STARPU_LIMIT_CUDA_1_MEM=500 $(on_gpus 2 "${product[@]}")
expect_ok env EMULATED_GPU_TAKEN_MIB=800 $(on_gpus 1 "${product[@]}")
expect_error 1 'GPU 0 does not give the [0-9]+ bytes' env EMULATED_GPU_MIB=256 EMULATED_GPU_TAKEN_LATER_MIB=256 $(on_gpus 1 "${product[@]}")
expect_ok env EMULATED_GPU_MIB=256 EMULATED_GPU_TAKEN_LATER_MIB=220 $(on_gpus 1 "${product[@]}")  # one piece of memory is enough
expect_error 1 'memory limit of [0-9]+ bytes is too small.*on their way' $(on_gpus 1 "${small[@]}" --host-memory 1M --swap swap)
expect_error 2 'modular-gemm.* gives GPUs nothing' env STARPU_SCHED=modular-gemm STARPU_NCPU=1 $(on_gpus 1 "${small[@]}")
expect_ok env STARPU_SCHED=modular-gemm STARPU_NCPU=0 $(on_gpus 1 "${product[@]}")
expect_error 1 'no worker' $(on_gpus 0 "${small[@]}")
finish
