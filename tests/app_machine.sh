#!/usr/bin/env bash
# tessera machine, machine list, machine compose and simulate: what they print, what they leave behind, and one line for
# everything that cannot be.  usage: bash app_machine.sh PROGRAM SOURCE_DIR SCRATCH_DIR
. "$(dirname "$0")/app_common.sh.inc"
begin "$@"
export TESSERA_CACHE=$scratch/cache
machine=("$program" machine) compose=("$program" machine compose)

expect_ok "${machine[@]}" --json --quiet
expect "peaks are positive" awk -v v="$(tail -n 1 out.txt | sed -nE 's/.*"f32_gflops_per_core":([0-9.e+]+).*/\1/p')" 'BEGIN { exit !(v > 0) }'
expect "workers are listed" grep -q 'CPU 0' out.txt
for figure in f32_gflops f64_gflops bf16_gflops gbytes_per_s; do
  expect "a worker's $figure as tasks is positive" awk -v v="$(tail -n 1 out.txt | sed -nE 's/.*"name":"CPU 0"[^}]*"peaks":\{[^}]*"'$figure'":([0-9.e+]+).*/\1/p')" 'BEGIN { exit !(v > 0) }'
done
expect "a core's share of bare calls is printed" grep -qE '^ +0  CPU 0 .*\([0-9]+ %\)' out.txt
expect "the models have nothing of it" test -z "$(find cache -name 'gemm_*' -o -name 'copy_*')"
expect_ok "${machine[@]}" list
expect "shipped machines are listed" grep -qE '^mixed-k40m-m2070 +shipped' out.txt
expect_ok "${machine[@]}" --machine mixed-h100-half --json
expect "figures that nobody measured are marked" grep -q 'published or derived' out.txt
# A run under the name of a machine that StarPU came with measures its own bus, and leaves StarPU's files alone.
expect_ok env STARPU_HOSTNAME=mirage TESSERA_CACHE="$scratch/as-mirage" "$program" train mlp --data digits:200 --epochs 1
expect_ok env STARPU_HOSTNAME=mirage STARPU_PERF_MODEL_DIR="$scratch/as-mirage-too" "$program" train mlp --data digits:200 --epochs 1
expect_ok "${machine[@]}" list
expect "StarPU's machine is as it came" grep -qE "^mirage +StarPU's +12 cores, 3 x Tesla M2070" out.txt
expect_error 2 "unknown machine 'nosuch'" "${machine[@]}" --machine nosuch
expect_error 2 'does not go with machine list' "${machine[@]}" --machine mirage list

# Composing: the shipped machines are sources like any other.
from=mixed-k40m-m2070
expect_ok "${compose[@]}" --from $from --gpus 1x$from,1x$from --scale 1,0.5 --cpus 2 --out made
expect "it says what was scaled" grep -q 'at 0.5 of its speed' out.txt
expect "six bus files" test "$(ls made/bus | wc -l)" = 6
expect_ok "${machine[@]}" --machine ./made
expect_ok "${machine[@]}" --machine ./made && expect "memories have the names of all tables" grep -qE '^from . to +NUMA 0 +CUDA 0 +CUDA 1$' out.txt
expect_ok "${compose[@]}" --gpus 2xh100,1xh100 --scale 1,0.5 --link 25GB/s,900MB/s --gpu-memory 80G --out published
expect "a slow link is in MB/s" grep -q 'link 900 MB/s as stated' out.txt
expect_ok "${machine[@]}" --machine ./published && expect "in the bus, too" grep -qE '^NUMA 0 .*25.00 GB/s +25.00 GB/s +900 MB/s$' out.txt
expect "and the slower GPU has a name of its own" grep -q 'CUDA 2 .*NVIDIA H100 SXM x0.5' out.txt
expect_error 1 "'made' is there already" "${compose[@]}" --gpus 1x$from --out made
expect_ok "${compose[@]}" --gpus 1x$from --out made --force
expect_ok "${compose[@]}" --gpus 1x$from --out made/ --force
expect "a slash behind its name changes nothing" test "$(ls made/bus | wc -l)" = 6 -a -e made/tessera.json
mkdir precious; touch precious/file
expect_error 1 'not a machine.s folder' "${compose[@]}" --gpus 1x$from --out precious --force
expect "it is left alone" test -f precious/file
expect_error 2 "unknown machine or device 'mixed-k40m-m2071'" "${compose[@]}" --gpus 1xmixed-k40m-m2071 --out x
expect_error 2 "'h100' is not in --from" "${compose[@]}" --from $from --gpus 1xh100 --out x
expect_error 2 "no device of it is used" "${compose[@]}" --from $from,h100 --gpus 1x$from --out x
expect_error 2 'at most 8' "${compose[@]}" --gpus 9x$from --out x
expect_error 2 'has 8$' "${compose[@]}" --gpus 1x$from --cpus 9 --out x
expect_error 2 'nobody measured the link' "${compose[@]}" --gpus 1xh100 --gpu-memory 80G --out x
expect_error 2 'how much memory' "${compose[@]}" --gpus 1xh100 --link 25GB/s --out x
expect_error 2 'no CPU cores' "${compose[@]}" --gpus 1xh100 --link 25GB/s --gpu-memory 80G --cpus 2 --out x
for bad in -3GB/s 0GB/s nanGB/s 12 12GB GB/s 12parsecs; do
  expect_error 2 "not a positive bandwidth" "${compose[@]}" --gpus 1x$from --link=$bad --out x
done
expect_ok "${compose[@]}" --gpus 1x$from --gpu-memory 16M --out small
for bad in 1 16 15M 16383K 16777215; do
  expect_error 2 "--gpu-memory '$bad' is less than 16M" "${compose[@]}" --gpus 1x$from --gpu-memory $bad --out x
done
expect_error 2 "'1' is less than 16M" "${compose[@]}" --gpus 1x$from,1x$from --gpu-memory 8G,1 --out x
for bad in 0 -1 8GB x; do expect_error 2 "'$bad' is not a size" "${compose[@]}" --gpus 1x$from --gpu-memory=$bad --out x; done
for bad in 0 -1 nan x; do expect_error 2 'not a positive factor' "${compose[@]}" --gpus 1x$from --scale=$bad --out x; done
for bad in $from x$from 1y$from -1x$from 1x; do expect_error 2 'not COUNTxNAME' "${compose[@]}" --gpus=$bad --out x; done
expect_error 2 'without any device' "${compose[@]}" --out x
expect_error 2 "cannot be a machine's name" "${compose[@]}" --gpus 1x$from --out 'a b'
expect_error 1 'cannot write' "${compose[@]}" --gpus 1x$from --out /proc/x
expect "nothing was made on the way" test ! -e x
for bad in .. . made/..; do expect_error 2 "cannot be a machine's name" "${compose[@]}" --gpus 1x$from --out $bad --force; done
expect "nothing half-made stays" test -z "$(ls | grep -E 'tmp-|old-' || true)"

# A machine whose files are damaged is refused before anything runs.
damaged() { rm -rf bad; cp -r made bad; sed -i "$2" bad/bus/made."$1"; }
damaged bandwidth '2s/\t[0-9]/\t-1/'
expect_error 1 'made.bandwidth.*must be positive' "$program" simulate --machine ./bad -- train mlp
damaged bandwidth '10,$d'
expect_error 1 'made.bandwidth.*cut off' "$program" simulate --machine ./bad -- train mlp
damaged config 's/^1 # Number of CUDA/2 # Number of CUDA/'
expect_error 1 'names 1 CUDA devices' "$program" simulate --machine ./bad -- train mlp
damaged platform.v4.xml '$d'
expect_error 1 'cut off' "$program" simulate --machine ./bad -- train mlp
# Copies of others that share the cache: who lives holds a lock.
mkdir -p cache/scratch/{live,left,fresh,old}; touch cache/scratch/{live,left}/.in-use; touch -d '2 hours ago' cache/scratch/old
expect_error 1 'cut off' flock cache/scratch/live/.in-use "$program" simulate --machine ./bad -- train mlp
expect "a copy that somebody uses survives" test -d cache/scratch/live
expect "one that nobody uses goes" test ! -e cache/scratch/left
expect "one that is being made survives, unless that was long ago" test -d cache/scratch/fresh -a ! -e cache/scratch/old
rm -r cache/scratch/live cache/scratch/fresh
expect_error 2 "unknown machine 'nosuch'" "$program" simulate --machine nosuch -- train mlp
expect_error 2 'has 4 GPUs' "$program" simulate --machine $from --gpus 5 -- train mlp
expect_error 2 'of which 4 drive GPUs' "$program" simulate --machine $from --cpus 5 -- train mlp
expect_error 2 'no device is left' "$program" simulate --machine $from --gpus 0 --cpus 0 -- train mlp
expect_error 2 'required' "$program" simulate --machine $from
expect_error 1 'not an empty folder' "$program" simulate --machine $from --keep precious -- train mlp
expect "the copies are gone" test -z "$(ls cache/scratch 2>/dev/null)"
finish
