#!/usr/bin/env bash
# tessera-sim gemm on StarPU's sirocco (4 equal GPUs behind one link): the same time twice, close to the bound with and
# without a limit on memory, C goes home once, no stock policy is faster; too small a limit is one clear line.
# usage: bash sim_gemm.sh TESSERA_SIM MODELS SCRATCH SHARES_PROBE
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
source "$(dirname "$0")/app_json.sh.inc"
[ $# -eq 4 ] || { echo "usage: bash $0 TESSERA_SIM MODELS SCRATCH SHARES_PROBE" >&2; exit 2; }
shares_probe=$(realpath "$4")
begin "${@:1:3}"
models=$source
[ -f "$models/bus/sirocco.platform.xml" ] || skip "StarPU's published machines are not in $models"
mkdir -p sirocco/bus sirocco/codelets/45  # one machine alone, as tessera simulate copies it
cp "$models"/bus/sirocco.* sirocco/bus/
cp "$models"/codelets/45/*.sirocco sirocco/codelets/45/
export TESSERA_CACHE=$scratch/cache STARPU_PERF_MODEL_DIR=$scratch/models STARPU_HOSTNAME=sirocco
export STARPU_NCUDA=4 STARPU_NCPU=0 STARPU_NOPENCL=0
unset STARPU_LIMIT_CUDA_MEM STARPU_PERF_MODEL_PATH
n=9600 c_bytes=$((9600 * 9600 * 4))
gemm=("$program" --log=root.thres:warning gemm --n $n --tile 960 --json)

fresh() { rm -rf models; cp -r sirocco models; }  # StarPU writes into the folder that it reads
# product NAME ARGUMENTS...: NAME.out holds what it wrote.
product() {
  local name=$1; shift
  fresh
  expect_ok "${gemm[@]}" "$@" || { finish; exit 1; }
  cp out.txt "$name.out"
}
value() { json_value "$2" "$1.out"; }  # NAME KEY
sum_bytes() {  # NAME FROM TO
  tail -n 1 "$1.out" | { grep -oE "\"bytes\":[0-9]+,\"from\":\"$2\",\"to\":\"$3\"" || true; } | tr ':' ',' |
    awk -F, '{ s += $2 } END { printf "%.0f\n", s }'
}

# --- the same twice, near the bound ---
product core; product again; product little --gpu-memory 120M
product uneven --gpu-memory 120M --tile 915  # tiles of 873 and 872: one more takes the memory of any other
expect "two simulations are the same: $(value core seconds), $(value again seconds) s" cmp -s core.out again.out
for run in core little; do
  note "$run: $(value $run seconds) s, efficiency $(value $run efficiency), q $(value $run q), $(value $run policy)"
  tail -n 1 $run.out >last.json
  expect "the last line of $run is JSON" valid_json last.json
  expect "it is simulated" grep -q '"simulated":true' last.json
  # C goes home once; where memory was short a tile now and then once more.
  home=$(sum_bytes $run 'CUDA [0-9]' 'NUMA 0')
  expect "$run: $home bytes on the way home" is_true "$home >= $c_bytes && $home <= 1.1 * $c_bytes"
  for share in $(grep -oE '"share":[0-9.]+' last.json | cut -d: -f2); do
    expect "equal GPUs have equal shares ($share)" is_true "$share > 0.24 && $share < 0.26"
  done
done
expect "four GPUs had half of A and of B each" is_true "$(sum_bytes core 'NUMA 0' 'CUDA [0-9]') >= 4 * $c_bytes"
# Measured 0.876; 0.714 and 1.58.
expect "efficiency in core ($(value core efficiency))" is_true "$(value core efficiency) >= 0.84 && $(value core efficiency) <= 1"
expect "efficiency in 120M ($(value little efficiency))" is_true "$(value little efficiency) >= 0.68"
expect "traffic in 120M ($(value little q))" is_true "$(value little q) <= 1.7"
# Measured 0.723 and 1.61; 0.624 and 1.80 where tiles of other sizes had to be freed first.
expect "efficiency in 120M, uneven tiles ($(value uneven efficiency))" is_true "$(value uneven efficiency) >= 0.68"
expect "traffic in 120M, uneven tiles ($(value uneven q))" is_true "$(value uneven q) <= 1.7"
for bytes in $(sed -nE '$s/.*"per_node":\[0,([0-9,]+)\].*/\1/p' little.out | tr ',' ' '); do
  expect "memory in use ($bytes)" is_true "$bytes > 0 && $bytes <= 120 * 1024 * 1024"
done

# --- cores help, or leave the work to GPUs: for one tile of C a core takes longer than four GPUs for all ---
STARPU_NCPU=20 product cores
expect "20 cores beside the GPUs make nothing slower ($(value cores seconds) s)" \
  is_true "$(value cores seconds) <= 1.02 * $(value core seconds)"

# --- the tile that auto takes is near the best; beside cores, too, and where GPUs and links differ ---
near_best() {  # MACHINE CORES N TYPE
  local tile least=1e9
  for tile in auto 480 960 1440 1920; do
    rm -rf models; cp -r "$1" models
    expect_ok env STARPU_HOSTNAME="$1" STARPU_NCUDA="$gpus" STARPU_NCPU="$2" "$program" --log=root.thres:warning gemm \
      --n "$3" --dtype "$4" --tile $tile --json || return 0
    if [ $tile = auto ]; then auto=$(json_value seconds out.txt); else least=$(awk "BEGIN { print $(json_value seconds out.txt) < $least ? $(json_value seconds out.txt) : $least }"); fi
  done
  expect "$*: auto takes $auto s, the best of four tiles $least s" is_true "$auto <= 1.05 * $least"
}
mkdir -p hannibal/bus hannibal/codelets/45
cp "$models"/bus/hannibal.* hannibal/bus/
cp "$models"/codelets/45/*.hannibal hannibal/codelets/45/
gpus=4; near_best sirocco 0 9600 f64; near_best sirocco 4 9600 f64; near_best sirocco 0 1920 f32
gpus=3; near_best sirocco 0 4800 f32; near_best hannibal 0 9600 f32

# --- no stock policy with tasks in plain order is faster; in core the order in blocks is not slower under any ---
for policy in dmda dmdas lws eager; do
  export STARPU_SCHED=$policy
  product $policy; product $policy.plain --plain; product $policy.little --plain --gpu-memory 120M
  unset STARPU_SCHED
  in_core=$(value $policy seconds) plain=$(value $policy.plain seconds) little=$(value $policy.little seconds)
  note "$policy: $in_core s, in plain order $plain s, with 120M $little s"
  expect "$policy is what ran" test "$(value $policy policy)" = $policy
  expect "$policy is not slower in blocks" is_true "$in_core <= 1.02 * $plain"
  expect "$policy in plain order is slower than ours" is_true "$plain > $(value core seconds)"
  expect "so it is in 120M" is_true "$little > $(value little seconds)"
done

# --- transposed, in doubles, C read; limits: three tiles are the least ---
product other --ta --tb --beta 0.5 --dtype f64 --gpu-memory 120M --n 4800
expect "A, B and C go to the GPUs" is_true "$(sum_bytes other 'NUMA 0' 'CUDA [0-9]') > 3 * 8 * 4800 * 4800"
product least --gpu-memory 11M --n 4800
fresh
expect_error 1 'a memory limit of 8388608 bytes is too small: .*gemm_f32.* needs 11059200 bytes' "${gemm[@]}" --gpu-memory 8M
expect "the least that works is named" grep -q '^hint: the least that works is 11M' err.txt

# The named limit runs, and one less does not.
for shape in "--tile 960 --dtype f64" "--tile 640" "--tile 1024" "--tile 512 --dtype f64 --ta --beta 1" "--tile 640 --m 700 --k 2000 --plain"; do
  fresh
  # shellcheck disable=SC2086
  expect_error 1 'the least that works is' "${gemm[@]}" --n 2048 $shape --gpu-memory 1M
  least=$(sed -nE 's/^hint: the least that works is ([0-9]+)M.*/\1/p' err.txt)
  fresh
  # shellcheck disable=SC2086
  expect_error 1 "the least that works is ${least}M" "${gemm[@]}" --n 2048 $shape --gpu-memory $((least - 1))M
  # shellcheck disable=SC2086
  product least --n 2048 $shape --gpu-memory "${least}M"
done

# --- beside cores, in memory for little more than a task: no device sleeps on what is left to it ---
mkdir -p idgraf/bus idgraf/codelets/45
cp "$models"/bus/idgraf.* idgraf/bus/
cp "$models"/codelets/45/*.idgraf idgraf/codelets/45/
for run in "8 4 --n 3018 --tile 960 --gpu-memory 14M" "3 8 --n 1289 --tile 480 --gpu-memory 13M"; do
  read -r gpus cores flags <<<"$run"
  rm -rf models; cp -r idgraf models
  # shellcheck disable=SC2086
  limit_s=60 expect_ok env STARPU_HOSTNAME=idgraf STARPU_NCUDA=$gpus STARPU_NCPU=$cores "$program" --log=root.thres:warning \
    gemm $flags --plain --beta 1 --json && expect "the product ends: $run" grep -q '"seconds":[0-9]' out.txt
done

# --- a plan whose rates are wrong, or a device that is slower than its model said, is corrected while it runs ---
seconds() { fresh; "$shares_probe" "$@" --log=root.thres:warning 2>/dev/null; }
right=$(seconds 1 1 1 1) wrong=$(seconds 4 1 1 1) slow=$(SLOWNESS=3 seconds 1 1 1 1)
note "planned rightly $right s; with 4 : 1 : 1 : 1 for equal GPUs $wrong s; with one three times slower than planned $slow s"
# Left alone the first GPU would take 16/7 and 3 times as long; the least that is possible is 1 and 1.2 times.
expect "a share of 4/7 for one of four equal GPUs is corrected" is_true "$wrong <= 1.15 * $right"
expect "a GPU that is three times slower than planned is helped" is_true "$slow <= 1.4 * $right && $slow >= 1.19 * $right"

# --- what ran when ---
product traced --trace t.json
expect "t.json is JSON" valid_json t.json
expect "1000 tasks are in it ($(grep -c '"cat":"op"' t.json))" test "$(grep -c '"cat":"op"' t.json)" = 1000
expect "the trace changes no time" test "$(value traced seconds)" = "$(value core seconds)"
finish
