#!/usr/bin/env bash
# A simulation in which nothing can go on is one error line and exit code 1, and not a success without results.
# usage: bash sim_standstill.sh TESSERA_SIM MODELS SCRATCH POLICY.so
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
[ $# -eq 4 ] || { echo "usage: bash $0 TESSERA_SIM MODELS SCRATCH POLICY.so" >&2; exit 2; }
policy=$(realpath "$4")
begin "${@:1:3}"
[ -f "$source/bus/sirocco.platform.xml" ] || skip "StarPU's published machines are not in $source"
mkdir -p models/bus models/codelets/45
cp "$source"/bus/sirocco.* models/bus/
cp "$source"/codelets/45/*.sirocco models/codelets/45/
export STARPU_PERF_MODEL_DIR=$scratch/models STARPU_HOSTNAME=sirocco STARPU_NCUDA=1 STARPU_NCPU=2 STARPU_NOPENCL=0
export STARPU_SCHED_LIB=$policy STARPU_SCHED=stuck
quietly=(--log=root.thres:warning --log=root.app:file:simgrid.log)  # its own account of who waits for what
expect_error 1 'the simulation came to a standstill' "$program" "${quietly[@]}" gemm --n 96 --tile 48 --quiet
STARPU_SCHED=dmdas expect_ok "$program" "${quietly[@]}" gemm --n 96 --tile 48 --quiet  # it is the policy
finish
