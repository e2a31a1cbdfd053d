#!/usr/bin/env bash
# Plans run on StarPU-SimGrid: simulated time on a machine that is not here is the same every time, not below the
# critical path, and much shorter with three GPUs than with one.  usage: sim_test.sh PROBE MODELS SCRATCH
set -euo pipefail
probe=$1 models=$2 scratch=$3
[ -f "$models/bus/mirage.platform.xml" ] || { echo "skipped: StarPU's published machines are not in $models"; exit 77; }
rm -rf "$scratch"; mkdir -p "$scratch/codelets/45"
cp -r "$models/bus" "$scratch/"   # StarPU writes into the folder it reads
export STARPU_PERF_MODEL_DIR=$scratch STARPU_HOSTNAME=mirage STARPU_NCPU=0 STARPU_NOPENCL=0
run() { STARPU_NCUDA=$1 "$probe"; }
one=$(run 1) again=$(run 1) three=$(run 3)
printf '%s GPU(s): seconds, critical path: %s\n' 1 "$one" 1 "$again" 3 "$three"
[ "$one" = "$again" ] || { echo "FAILED: two simulations differ"; exit 1; }
awk -v one="${one%% *}" -v three="${three%% *}" 'BEGIN { exit !(three > 0 && three < 0.7 * one) }' ||
  { echo "FAILED: three GPUs are not faster than one"; exit 1; }
