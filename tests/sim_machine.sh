#!/usr/bin/env bash
# A composed machine is one for StarPU-SimGrid: plans run on it, twice alike; each GPU has the times of the machine that
# it comes from, so that two K40m finish sooner than two M2070, all four sooner still, and the fast ones do the most.
# usage: sim_machine.sh SIM_PROBE MACHINE_PROBE PERFMODELS SCRATCH
set -euo pipefail
probe=$1 products=$2 machines=$3 scratch=$4
name=mixed-k40m-m2070
[ -d "$machines/$name/bus" ] || { echo "FAILED: $machines/$name is not there"; exit 1; }
rm -rf "$scratch"; mkdir -p "$scratch"
export STARPU_NOPENCL=0 STARPU_SCHED=dmdas STARPU_PROFILING=1 STARPU_SILENT=1

# run MACHINE GPUS CPUS PROGRAM: on a copy, because StarPU writes into the folder it reads.
run() {
  local copy=$scratch/$1
  rm -rf "$copy"; cp -r "$machines/$1" "$copy"; mkdir -p "$copy/codelets/45"
  STARPU_PERF_MODEL_DIR=$copy STARPU_HOSTNAME=$1 STARPU_NCUDA=$2 STARPU_NCPU=$3 "$4" --log=root.thres:warning
}
fail() { echo "FAILED: $*"; exit 1; }
# less A B FACTOR: A < B * FACTOR, for numbers.
less() { awk -v a="$1" -v b="$2" -v f="$3" 'BEGIN { exit !(a > 0 && a < b * f) }'; }

first=$(run $name 4 4 "$probe") again=$(run $name 4 4 "$probe")
echo "plan on 4 GPUs and 4 cores: $first (seconds, critical path)"
[ "$first" = "$again" ] || fail "two simulations differ: $first, $again"
one=$(run $name 1 0 "$probe") four=$(run $name 4 0 "$probe")
less "${four%% *}" "${one%% *}" 0.6 || fail "four GPUs are not faster than one: $four, $one"

four=$(run $name 4 0 "$products") again=$(run $name 4 0 "$products")
fast=$(STARPU_WORKERS_CUDAID="0 1" run $name 2 0 "$products")
slow=$(STARPU_WORKERS_CUDAID="2 3" run $name 2 0 "$products")
printf 'products on %s: %s\n' 'all four GPUs' "$four" 'two K40m' "$fast" 'two M2070' "$slow"
[ "$four" = "$again" ] || fail "two simulations differ: $four, $again"
less "${fast%% *}" "${slow%% *}" 0.5 || fail "two K40m are not twice as fast as two M2070"
less "${four%% *}" "${fast%% *}" 0.95 || fail "four GPUs are not faster than two of them"
read -r _ k40m _ m2070 _ <<<"$four"
less "$m2070" "$k40m" 0.5 || fail "a K40m did $k40m products, an M2070 $m2070"

# Published figures alone: no models, but a bus that SimGrid takes.
half=$(run mixed-h100-half 4 0 "$probe")
echo "plan on mixed-h100-half: $half"
