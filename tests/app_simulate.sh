#!/usr/bin/env bash
# tessera simulate: the plan of a command on another machine, the same twice, with all that the table and JSON promise;
# one line for everything that cannot be.  usage: bash app_simulate.sh PROGRAM SOURCE_DIR SCRATCH_DIR
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
source "$(dirname "$0")/app_json.sh.inc"
begin "$@"
folder=$(dirname "$program")
[ -x "$folder/../sim/tessera-sim" ] || [ -x "$folder/../libexec/tessera-sim" ] || skip 'tessera-sim is not built'
export TESSERA_CACHE=$scratch/cache STARPU_HOSTNAME=here
simulate=("$program" simulate) sirocco=("$program" simulate --machine sirocco)
small=(train mlp --hidden 64 --batch 64) large=(train mlp --hidden 4096,4096 --batch 2000 --tile 2000)
step_of() { json_value step_seconds "$1"; }

# --- StarPU's sirocco: 24 cores, 4 GPUs ---
if expect_ok "${sirocco[@]}" -- "${small[@]}" --json; then
  cp out.txt first.txt
  expect "the last line is JSON" last_line_is_json
  for key in simulated machine network parameters steps seconds step_seconds samples_per_s gflops tasks efficiency bound bound_kind devices \
    busy transfers idle bytes peak_memory_bytes policy workers models_measured models_estimated; do
    expect "the JSON has $key" grep -q "\"$key\":" last.json
  done
  expect "simulated is true" grep -q '"simulated":true' last.json
  for key in test_accuracy train_loss; do expect "no $key: it depends on values" not grep -q "\"$key\"" last.json; done
  expect "no number of it is missing" not grep -qE ':(null|nan|inf|-nan)' last.json
  expect "784 x 64 + 64 x 10 parameters and biases" test "$(json_value parameters out.txt)" = 50890
  expect "20 cores and 4 GPUs work" test "$(json_value workers out.txt)" = 24
  for key in step_seconds samples_per_s gflops bound; do expect "$key is positive" is_true "$(json_value $key out.txt) > 0"; done
  expect "efficiency is in (0, 1]" is_true "$(json_value efficiency out.txt) > 0 && $(json_value efficiency out.txt) <= 1"
  expect "estimates are marked" grep -q 'estimates: ' out.txt
  expect "stderr says what is simulated, in one line" is_true "$(wc -l <err.txt) == 1 && $(grep -cE '^simulating [0-9]+ steps of [0-9]+ tasks' err.txt) == 1"
  grep -oE '"busy":[^,]*,"idle":[^,]*,"tasks":[^,]*,"transfers":[^,}]*' last.json | tr ':' ',' |
    awk -F, '{ s = $2 + $4 + $8; if (!(s > 0.999 && s < 1.1)) bad = 1; n++ } END { exit bad || n != 24 }' || fail "busy, transfers and idle are the whole of 24 workers"
  expect_ok "${sirocco[@]}" -- "${small[@]}" --json --quiet && expect "a second run is the same, byte for byte" cmp -s first.txt out.txt
  expect "nothing is on stderr with --quiet" test ! -s err.txt
  expect_ok "${sirocco[@]}" --quiet --json -- "${small[@]}" && expect "so it is with simulate's own flags" cmp -s first.txt out.txt
  expect "and on stderr" test ! -s err.txt
fi
# StarPU fetches what a task reads in the order of handles' addresses: where malloc finds room must not change times.
tiled=("$program" simulate --machine mixed-k40m-m2070 --cpus 2 -- train mlp --batch 1024 --hidden 1024,1024 --tile 256 --schedules 500 --json --quiet)
for kept_blocks in 0 1 7 50; do
  expect_ok env GLIBC_TUNABLES=glibc.malloc.tcache_count=$kept_blocks "${tiled[@]}" || continue
  [ -e heap.txt ] || cp out.txt heap.txt
  expect "a run with another heap is the same (malloc keeps $kept_blocks blocks)" cmp -s heap.txt out.txt
done
expect "nothing of the simulation stays in the cache but schedules" test -z "$(find cache -mindepth 2 -not -path 'cache/schedules/*' 2>/dev/null)"

# --- a search is paid once ---
placed=("${sirocco[@]}" --gpus 2 --cpus 0 -- train pathnet --data cifar10 --batch 16 --tile 16 --steps 2 --schedules 500 --json --quiet)
kept() { ls -i cache/schedules; }  # a file that is written anew has another number
rm -rf cache/schedules
if expect_ok "${placed[@]}"; then
  cp out.txt searched.txt; before=$(kept)
  expect "what was found is kept" test "$(kept | wc -l)" = 1
  expect_ok "${placed[@]}" && expect "a run by kept schedules is the same" cmp -s searched.txt out.txt
  expect "and searched nothing" test "$(kept)" = "$before"
  printf x >>cache/schedules/*
  expect_ok "${placed[@]}" && expect "a run beside a damaged file is the same" cmp -s searched.txt out.txt
  expect "and wrote it anew" test "$(kept)" != "$before"
fi

# --- devices ---
declare -A step
for gpus in 0 1 4; do
  expect_ok "${sirocco[@]}" --gpus $gpus --cpus 4 -- "${large[@]}" --json || continue
  step[$gpus]=$(step_of out.txt)
  expect "4 cores and $gpus GPUs" test "$(json_value workers out.txt)" = $((gpus + 4))
  cp out.txt "large$gpus.txt"
done
expect "a GPU is faster than cores (${step[0]:-0} s, ${step[1]:-0} s)" is_true "${step[1]:-0} < ${step[0]:-0}"
expect "four GPUs are not slower than one (${step[1]:-0} s, ${step[4]:-0} s)" is_true "${step[4]:-0} <= ${step[1]:-0} * 1.01"
expect "bytes go to the GPU" grep -qE '"bytes":[1-9][0-9]*,"from":"NUMA 0","to":"CUDA 0"' large1.txt
memory=$(sed -nE '$s/.*"per_node":\[[0-9]+,([0-9]+).*/\1/p' large1.txt)
expect "a GPU that has 19.9 M weights, gradients and momenta held more than 200 MB (${memory:-0})" test "${memory:-0}" -gt 200000000
expect_ok "${sirocco[@]}" --gpus 1 --cpus 0 -- "${small[@]}" --json && expect "one GPU alone" test "$(json_value workers out.txt)" = 1
expect_ok "$program" simulate --machine mixed-k40m-m2070 -- "${small[@]}" --json && expect "a composed machine" test "$(json_value machine out.txt)" = mixed-k40m-m2070
for policy in eager lws dmda; do
  expect_ok env STARPU_SCHED=$policy "${sirocco[@]}" -- "${small[@]}" --json && expect "$policy is what ran" test "$(json_value policy out.txt)" = $policy
done
expect_ok "${sirocco[@]}" -- train mlp --data mnist:/nowhere --steps 1 || true  # no data set is needed
expect_ok "${sirocco[@]}" --keep kept -- "${small[@]}" && expect "--keep leaves the models that were used" test -e kept/codelets/45/gemm_f32.sirocco

# --- a product that is too small for the GPUs: no least traffic, and no ratio to one ---
if expect_ok "${sirocco[@]}" -- gemm --n 100 --json; then
  expect "no traffic was needed" grep -q '"q":null' out.txt
  expect "the table says so" grep -qE '^traffic +-$' out.txt
fi

# --- a product says what its times are and who was busy, as a training step does ---
if expect_ok "${sirocco[@]}" --cpus 2 -- gemm --n 1920 --tile 960 --json; then
  expect "estimates are marked" grep -qE '^models +[0-9]+ measured; estimates: [0-9]+ from StarPU' out.txt
  expect "a row for each worker" test "$(grep -cE '^(CUDA|CPU) [0-9].* %  +[0-9.]+ %  +[0-9.]+ %$' out.txt)" = 6
  last_line_is_json
  for key in models_measured models_estimated devices busy transfers idle; do expect "the JSON has $key" grep -q "\"$key\":" last.json; done
  grep -oE '"busy":[^,]*,"idle":[^,]*,"tasks":[^,]*,"transfers":[^,}]*' last.json | tr ':' ',' |
    awk -F, '{ s = $2 + $4 + $8; if (!(s > 0.999 && s < 1.1)) bad = 1; n++; tasks += $6 } END { exit bad || n != 6 || tasks != 8 }' ||
    fail "busy, transfers and idle are the whole of 6 workers with 8 tasks"
fi

# --- trace and picture of what never ran ---
if expect_ok "${sirocco[@]}" -- "${small[@]}" --trace t.json --gantt t.svg --dag d.dot --json; then
  expect "t.json is JSON" valid_json t.json
  expect "GPUs have rows" grep -q '"args":{"name":"CUDA 3' t.json
  said=$(grep -c '"cat":"op"' t.json)
  expect "a complete event for each of $(json_value tasks out.txt) tasks ($said)" test "$said" = "$(json_value tasks out.txt)"
  expect "t.svg is one SVG" sh -c 'grep -q "<svg" t.svg && tail -n 1 t.svg | grep -q "</svg>"'
  expect "d.dot is a graph" grep -q '^digraph' d.dot
  expect "the trace changes no time" test "$(step_of out.txt)" = "$(step_of first.txt)"
fi
if expect_ok "${sirocco[@]}" -- train mlp --data digits --hidden 2048,2048 --batch 1024 --steps 5 --trace big.json; then
  expect_ok "$program" machine --machine sirocco
  fastest=$(grep -E '^(NUMA|CUDA)' out.txt | grep -oE '[0-9.]+ GB/s' | sort -g | tail -n 1)
  highest=$(grep -oE '"GB/s":[0-9.]+' big.json | cut -d : -f 2 | sort -g | tail -n 1)
  expect "no link carries more ($highest GB/s) than it was measured with ($fastest)" is_true "${highest:-0} > 0 && $highest < 1.01 * ${fastest% *}"
fi

# --- the machine that is here: measured, so that nothing is estimated ---
expect_ok "$program" calibrate train mlp --data digits:320 --hidden 16 --batch 32 --quiet
if expect_ok "$program" simulate --machine here -- train mlp --data digits:320 --hidden 16 --batch 32 --json; then
  expect "no estimate is needed" grep -q '"models_estimated":{}' out.txt
  expect "every model was measured" test "$(json_value models_measured out.txt)" -gt 10
fi
if expect_ok "$program" simulate --machine here -- train mlp --data digits:320 --hidden 999 --batch 32 --json; then
  expect "of another width some are regressions, and marked" grep -q '"models_estimated":{"[^}]*regression"' out.txt
fi
# Training with another machine's models measures nothing for that machine.
expect_ok "${simulate[@]}" --machine mirage -- "${small[@]}" --json && cp out.txt before.txt
expect_ok "$program" train mlp --data digits:320 --hidden 64 --batch 64 --epochs 1 --quiet --machine mirage || true
if expect_ok "${simulate[@]}" --machine mirage -- "${small[@]}" --json; then expect "mirage is the same after training with its models" cmp -s before.txt out.txt; fi
expect_ok "$program" machine --machine mirage && expect "it has its GPUs" grep -q 'CUDA 2' out.txt
# A codelet without a model or figures of the device: named, with the command that measures it.
cp -r cache/machines/here nothing
rm nothing/codelets/45/* nothing/tessera.json
expect_error 1 "machine 'here' has no time for [a-z_]+_[a-z0-9]+ on cpu" "${simulate[@]}" --machine ./nothing/ -- "${small[@]}"
expect "it says what to run" grep -qxF 'hint: measure there: tessera calibrate train mlp --hidden 64 --batch 64' err.txt
expect_error 1 "machine 'here' has no time for gemm_f32 on cpu" "${simulate[@]}" --machine ./nothing/ -- gemm --n 96 --tile 48 --repeat 2 --json
expect "with all that the plan depends on" grep -qxF 'hint: measure there: tessera calibrate gemm --n 96 --tile 48' err.txt
cp -r cache/machines/here torn; head -c 900 cache/machines/here/codelets/45/gemm_f32.here >torn/codelets/45/gemm_f32.here
expect_error 1 "gemm_f32.here'.*cut off" "${simulate[@]}" --machine ./torn/ -- "${small[@]}"
sed 's/^45$/46/' cache/machines/here/codelets/45/gemm_f32.here >torn/codelets/45/gemm_f32.here
expect_error 1 "gemm_f32.here'.*version 46" "${simulate[@]}" --machine ./torn/ -- "${small[@]}"
rm -rf torn; cp -r "$source/perfmodels/mixed-k40m-m2070" torn
sed -i 's/id="CUDA3"/id="CUDA9"/' torn/bus/*.platform.v4.xml
expect_error 1 "platform.v4.xml.*CUDA3" "${simulate[@]}" --machine ./torn/ -- "${small[@]}"
torn() { cp "$source"/perfmodels/mixed-k40m-m2070/bus/*.v4.xml torn/bus/; sed -i "$1" torn/bus/*.v4.xml; }
refused() { torn "$1"; expect_error 1 "platform.v4.xml', line [0-9]+: .*$2" "${simulate[@]}" --machine ./torn/ -- "${small[@]}"; }
refused '$d' 'cut off'
refused 's/<zone /<realm /; s|</zone>|</realm>|' 'no element <realm>'
refused 's/<link id="Host"/& id="Hose"/' 'duplicate attribute'
refused '0,/bandwidth="/s//bandwidth="-/' 'not a positive number'
refused 's/<link_ctn id="Host"/<link_ctn id="Hose"/' 'is not there'
refused '/<link id="Host"/{h;d};/<\/zone>/{x;p;x}' 'stands below it'
for name in attila hannibal idgraf; do expect_ok "${simulate[@]}" --machine $name -- "${small[@]}" --quiet || true; done  # hannibal has no routes between GPUs

# --- what a simulation understands: ours alone, not what SimGrid takes ---
for command in train gemm; do
  expect_ok "${sirocco[@]}" -- $command --help && expect "help of $command" grep -qF "Usage: tessera simulate --machine NAME -- $command [OPTIONS]" out.txt
  for flag in verify out checkpoint resume streams; do expect "it does not list --$flag" not grep -qE "^ +--$flag\b" out.txt; done
done
expect_ok "${sirocco[@]}" -- train --help && expect "--steps is in it" grep -qE '^ +--steps .*timed' out.txt
expect_ok "${simulate[@]}" --help && expect "it says where the commands' flags are" grep -qF -- '-- COMMAND --help' out.txt
for words in "--version" "gemm --version"; do
  # shellcheck disable=SC2086
  expect_ok "${sirocco[@]}" -- $words && expect "our version" grep -qxE 'tessera [0-9.]+' out.txt
done
for flag in cfg=a:1 log=root.thres:info help-cfg; do expect_error 2 "unknown option '--${flag%=*}'" "${sirocco[@]}" -- gemm --n 10 --$flag; done
for flag in "--a x.npy" "--out x.npy" "--verify" "--streams 2" "--machine mirage"; do
  # shellcheck disable=SC2086
  expect_error 2 "not under 'tessera simulate': ${flag%% *};" "${sirocco[@]}" -- gemm --n 10 $flag
done
for flag in "--checkpoint ck" "--resume" "--every 2" "--metrics m.jsonl" "--plot p.svg"; do
  # shellcheck disable=SC2086
  expect_error 2 "not under 'tessera simulate': ${flag%% *};" "${sirocco[@]}" -- "${small[@]}" $flag
done
expect_error 2 "only under 'tessera simulate': --steps" "$program" train mlp --steps 3
expect_error 2 "unknown option '--zzzzzzzzz'" "${sirocco[@]}" -- "${small[@]}" --zzzzzzzzz
expect "the help that it points to is that of a simulation" grep -qxF 'hint: tessera simulate --machine NAME -- train --help' err.txt

# --- wrong use ---
expect_error 2 "unknown machine 'nosuch'" "${simulate[@]}" --machine nosuch -- "${small[@]}"
expect "the known ones are listed" grep -q '^hint: .*mirage.*sirocco' err.txt
expect_error 2 'machine' "${simulate[@]}" -- "${small[@]}"
expect_error 2 '--|command' "${sirocco[@]}"
expect_error 2 '--batch|--' "${sirocco[@]}" train mlp --batch 64
for value in -1 x 1.5 '' 99999999999999999999; do for flag in gpus cpus; do expect_error 2 "--$flag" "${simulate[@]}" --$flag="$value" --machine sirocco -- "${small[@]}"; done; done
expect_error 2 'has 4 GPUs' "${sirocco[@]}" --gpus 5 -- "${small[@]}"
expect_error 2 'has 24 CPU cores' "${sirocco[@]}" --cpus 21 -- "${small[@]}"
expect_error 2 "'--nope'" "${sirocco[@]}" -- "${small[@]}" --nope
expect_error 2 "did you mean 'train'" "${sirocco[@]}" -- trian mlp
expect_error 2 "'mpl'" "${sirocco[@]}" -- train mpl
for value in 0 x 1.5; do expect_error 2 "--batch" "${sirocco[@]}" -- train mlp --batch $value; done
expect_error 1 'batch of 20000 is larger than the training data .10000' "${sirocco[@]}" -- train mlp --batch 20000
expect_error 2 "--steps" "${sirocco[@]}" -- "${small[@]}" --steps 0
expect_error 2 'dmdass' env STARPU_SCHED=dmdass "${sirocco[@]}" -- "${small[@]}"
expect_error 2 "TESSERA_NOPE" env TESSERA_NOPE=1 "${sirocco[@]}" -- "${small[@]}"
for word in 'calibrate train mlp' 'bench gemm' 'bench overhead'; do
  # shellcheck disable=SC2086
  expect_error '[12]' 'simulat' "${sirocco[@]}" -- $word  # what cannot be simulated says so
done
for flag in trace gantt dag; do expect_error 1 "--$flag.*'none/x'" "${sirocco[@]}" -- "${small[@]}" --$flag none/x; done
touch file
expect_error 1 'file' env TESSERA_CACHE="$scratch/file" "${sirocco[@]}" -- "${small[@]}"
expect_error 2 'positive bandwidth' "$program" machine compose --gpus 1xsirocco --link=-3GB/s --out x
# The last batch of an epoch is shorter: neither a step's time nor its bound may mix the two.
if expect_ok "${sirocco[@]}" --gpus 1 --cpus 0 -- train mlp --hidden 512 --batch 5000 --json; then
  even=$(json_value samples_per_s out.txt)
  expect_ok "${sirocco[@]}" --gpus 1 --cpus 0 -- train mlp --hidden 512 --batch 7000 --json
  expect "efficiency does not pass 1 ($(json_value efficiency out.txt))" is_true "$(json_value efficiency out.txt) <= 1"
  expect "7000 at once are as fast as 5000 ($even, $(json_value samples_per_s out.txt) samples/s)" is_true "$(json_value samples_per_s out.txt) < 1.1 * $even"
fi

# --- nothing can go on: a policy of the simulator's own tests keeps all tasks ---
stuck=$folder/../sim/tests/libsim_stuck_policy.so
if [ -e "$stuck" ]; then
  expect_error 1 'the simulation came to a standstill' env STARPU_SCHED_LIB="$stuck" STARPU_SCHED=stuck "${sirocco[@]}" -- "${small[@]}" --quiet
else note "no policy that stands still: the simulator's tests are not built"; fi

# --- interrupted: nobody is left running, nothing lying around ---
"${sirocco[@]}" -- "${large[@]}" --steps 100000 >k.txt 2>&1 </dev/null & victim=$!
sleep 2; kill -TERM $victim; code=0; wait $victim || code=$?
expect "ended by a signal ($code)" test $code -gt 128
expect "its copies are gone" test -z "$(find cache/scratch -mindepth 1 2>/dev/null)"
# --- placed tasks: what the planner foresaw is about what happens, and as good as StarPU's own placing ---
wide=(train pathnet --data cifar10 --batch 16 --tile 16 --steps 5 --json)
if expect_ok "${sirocco[@]}" --gpus 2 --cpus 0 -- "${wide[@]}"; then
  placed=$(json_value step_seconds out.txt) planned=$(json_value planned out.txt)
  expect "the policy is list" test "$(json_value policy out.txt)" = list
  expect "planned $planned, simulated $placed" is_true "$planned < 1.25 * $placed && $placed < 1.25 * $planned"
  expect_ok "${sirocco[@]}" --gpus 1 --cpus 0 -- "${wide[@]}" && expect "not slower than one GPU" is_true "$placed <= 1.02 * $(json_value step_seconds out.txt)"
  expect_ok "${sirocco[@]}" --gpus 2 --cpus 0 -- "${wide[@]}" --schedules 0 && expect "0 schedules: StarPU places" test "$(json_value policy out.txt)" = dmdas
fi

# --- little GPU memory: cores do what GPUs would have to send home and fetch again ---
updates=(train mlp --hidden 8192,8192 --batch 4096 --tile 1024 --gpu-memory 250M --steps 3 --json)
if expect_ok "${sirocco[@]}" --cpus 0 -- "${updates[@]}"; then
  alone=$(json_value step_seconds out.txt)
  expect_ok "${sirocco[@]}" --cpus 4 -- "${updates[@]}" && beside=$(json_value step_seconds out.txt)
  expect_ok env STARPU_SCHED=dmdas "${sirocco[@]}" --cpus 4 -- "${updates[@]}"
  expect "4 cores beside 4 GPUs with 250M ($beside s) save a third ($alone s without)" is_true "$beside < 0.67 * $alone"
  expect "dmdas is slower ($(json_value step_seconds out.txt) s)" is_true "$beside < $(json_value step_seconds out.txt)"
fi
expect_ok "$program" bench interop pathnet --batch 4 --rounds 1 --steps 1 --machines sirocco:1,sirocco:2 --json &&
  expect "two machines were simulated" test "$(grep -o '"machine":"sirocco"' out.txt | wc -l)" = 2
finish
