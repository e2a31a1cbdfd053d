#!/usr/bin/env bash
# tessera calibrate and perfmodel: measured once and kept, whatever interrupts it or runs beside it; damaged models are
# findings, and a run sets them aside.  usage: bash app_calibrate.sh PROGRAM SOURCE_DIR SCRATCH_DIR
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
source "$(dirname "$0")/app_json.sh.inc"
begin "$@"
export TESSERA_CACHE=$scratch/cache STARPU_HOSTNAME=here
seed=${KILL_SEED:-$$} RANDOM=${KILL_SEED:-$$}
small=(train mlp --data digits:320 --hidden 16 --batch 32 --quiet)
calibrate() { expect_ok "$program" calibrate "$@" --json; }
perfmodel=("$program" perfmodel)
gemm=$TESSERA_CACHE/machines/here/codelets/45/gemm_f32.here
sizes() { "${perfmodel[@]}" list --json >sizes.txt 2>&1 || true; json_sum sizes sizes.txt || true; }  # 0: nothing kept
readable() {  # WHAT: every file parses, once there is anything
  [ -e "$TESSERA_CACHE/machines/here/bus/here.config" ] || return 0
  expect_ok "${perfmodel[@]}" list --json || note "$1"
  expect_ok "$program" machine --machine "$TESSERA_CACHE/machines/here/" || note "$1"
}

expect_error 1 'nothing was measured' "${perfmodel[@]}" list
expect "the hint is the command" grep -q '^hint: .*tessera calibrate' err.txt

# --- once, and not again ---
calibrate "${small[@]}"
measured=$(json_value measured out.txt)
expect "something is measured ($measured)" test "$measured" -gt 20
expect "the last line is JSON" last_line_is_json
expect "--quiet is quiet" test ! -s err.txt
calibrate "${small[@]}"
expect "the second call measures nothing" test "$(json_value measured out.txt)" = 0
expect "it says what was there" test "$(json_value present out.txt)" = "$measured"
calibrate --reset "${small[@]}"
expect "--reset measures all again" test "$(json_value measured out.txt)" = "$measured"
calibrate "${small[@]/--quiet/--serial}" --hidden 24
more=$(json_value measured out.txt) there=$(json_value present out.txt)
expect "another width measures what is new ($more beside $there)" test "$more" -gt 0 -a "$there" -gt 0
expect "progress in a pipe is lines that name codelets" grep -qE '^calibrate: [a-z_0-9]+ \([0-9]+ of [0-9]+\)$' err.txt
expect "no carriage return among them" not grep -q $'\r' err.txt
expect "StarPU's own folder of the run is gone" test -z "$(find cache/scratch -mindepth 1 -type d)"

facts=cache/machines/here/tessera.json
expect "both commands are noted, without what changes no time" test \
  "$(sed -n '/^ "commands"/,/^ ]/p' $facts | grep -c 'tessera calibrate train mlp --data digits:320 --hidden 16 --batch 32\( --serial --hidden 24\)\?"')" = 2

# --- pairs: of tasks so long that their implementations are told apart on a busy machine, too ---
long=(train mlp --data digits:320 --hidden 512,512 --batch 128 --quiet)
calibrate "${long[@]}"
cp -r "$TESSERA_CACHE/machines/here/codelets" models-before
calibrate "${long[@]}" --pairs 2
together=$(json_value together out.txt)
expect "pairs are measured together ($together)" test "$together" -gt 0
expect "beside the models, which stay as they are" diff -r models-before "$TESSERA_CACHE/machines/here/codelets"
expect "in the machine's facts" grep -q '"beside"' "$TESSERA_CACHE/machines/here/tessera.json"
calibrate "${long[@]}" --pairs 2
expect "once" test "$(json_value together out.txt)" = 0
expect_ok "$program" "${long[@]}" --epochs 1 || true  # with what they choose
for value in -1 x 1.5; do expect_error 2 '--pairs' "$program" calibrate --pairs="$value" "${small[@]}"; done
for value in 0 -1 x; do expect_error 2 '--streams' "$program" "${small[@]}" --streams="$value"; done

# --- a product ---
calibrate gemm --n 96 --tile 48 --quiet
tiles=$(json_value measured out.txt)
expect "a product's tasks are measured ($tiles)" test "$tiles" -gt 0
calibrate gemm --n 96 --tile 48 --quiet
expect "the second time it measures nothing" test "$(json_value measured out.txt)" = 0
expect "and says what was there" test "$(json_value present out.txt)" = "$tiles"
calibrate gemm --n 96 --tile 32 --quiet
expect "other tiles are measured" test "$(json_value measured out.txt)" -gt 0

# --- perfmodel ---
expect_ok "${perfmodel[@]}" list --json && expect "list: JSON" last_line_is_json && expect "gemm_f32 is listed" grep -q '^gemm_f32 ' out.txt
  expect "no codelet without a row is listed" awk '/^[a-z_0-9]+ .* (current|stale|unknown)$/ && $(NF-1) + $(NF-2) == 0 { bad = 1 } END { exit bad }' out.txt
expect_ok "${perfmodel[@]}" show gemm_f32 --json && expect "show: JSON" last_line_is_json
for key in device implementation footprint samples mean_us deviation gflops gbytes_per_s share_of_peak origin; do expect "show has $key" grep -q "\"$key\":" last.json; done
expect "every entry has 10 samples or more" sh -c "grep -oE '\"samples\":[0-9]+' last.json | cut -d: -f2 | awk '\$1 < 10 { bad = 1 } END { exit bad || NR == 0 }'"
expect_ok "${perfmodel[@]}" plot gemm_f32 --out g.svg && expect "plot: one SVG" sh -c 'grep -q "<svg" g.svg && tail -n 1 g.svg | grep -q "</svg>"'
expect_error 2 "no model of 'gem_f32'" "${perfmodel[@]}" show gem_f32
expect "it suggests gemm_f32" grep -q gemm_f32 err.txt
expect_error 2 "no .svg" "${perfmodel[@]}" plot gemm_f32 --out g.png
expect_error 1 "none/g.svg" "${perfmodel[@]}" plot gemm_f32 --out none/g.svg
expect_error 2 "required" "${perfmodel[@]}" plot gemm_f32
expect_error 2 "did you mean 'list'" "${perfmodel[@]}" lisst
for command in list "show gemm_f32" "plot gemm_f32 --out x.svg" check; do
  # shellcheck disable=SC2086
  expect_error 2 "unknown machine 'nosuch'" "${perfmodel[@]}" $command --machine nosuch
  expect "$command lists the known machines" grep -q '^hint: .*sirocco' err.txt
done
code=0; "${perfmodel[@]}" check --json >out.txt 2>err.txt || code=$?
expect "check ends with 0 or 1 ($code)" test $code -le 1
expect "check: JSON" last_line_is_json

# --- a command that can be typed again, and one that cannot be run any more ---
calibrate "${small[@]}" --dag 'a b.dot'
expect "a word with a space is kept in quotes" grep -qF "'a b.dot'" cache/machines/here/tessera.json
for run in "env STARPU_NCPU=0" "env -u STARPU_NCUDA STARPU_NCPU=0"; do
  # shellcheck disable=SC2086
  code=0; $run "${perfmodel[@]}" check >out.txt 2>err.txt </dev/null || code=$?
  expect "check without a core ($run) ends with 0 or 1 ($code)" test $code -le 1
  expect "it looks at the models nonetheless" grep -q '^machine here: ' out.txt
done
code=0; STARPU_NCPU=0 "${perfmodel[@]}" check >out.txt 2>err.txt || code=$?
expect "one note says that drift is not looked for" test "$(grep -c '^note: drift is not looked for, .*no worker' err.txt)" = 1 -a "$(wc -l <err.txt)" = 1

# --- a folder that StarPU's variables name ---
STARPU_PERF_MODEL_DIR=$scratch/elsewhere calibrate gemm --n 80 --tile 40 --quiet
expect "results are where they say" test -e elsewhere/codelets/45/gemm_f32.here -a "$(json_value folder out.txt)" = "$scratch/elsewhere"
expect_ok env STARPU_PERF_MODEL_DIR="$scratch/elsewhere" "${perfmodel[@]}" show gemm_f32 || true
STARPU_PERF_MODEL_DIR=$scratch/elsewhere calibrate gemm --n 80 --tile 40 --quiet
expect "nothing is measured twice" test "$(json_value measured out.txt)" = 0

# --- a user whose home has the bus of an earlier StarPU program ---
host=$(basename "$(ls -d "$TESSERA_CACHE"/machines/*/bus/*.config | head -n 1)" .config)
mkdir -p home/.starpu/sampling
cp -r "$TESSERA_CACHE/machines/$host/bus" home/.starpu/sampling/bus
expect_ok env -u XDG_CACHE_HOME HOME="$scratch/home" STARPU_HOSTNAME="$host" TESSERA_CACHE="$scratch/fresh" "$program" calibrate "${small[@]}" --json
expect "the machine has that bus" cmp -s home/.starpu/sampling/bus/$host.bandwidth fresh/machines/$host/bus/$host.bandwidth

# --- --save, and what it is good for ---
calibrate --save "$scratch/saved/mine" "${small[@]}"
expect "--save names the files for its folder" test -e saved/mine/codelets/45/gemm_f32.mine
cp -r saved before
expect_ok "${perfmodel[@]}" list --machine saved/mine/ && expect "it is machine mine" grep -qx 'machine mine' out.txt
expect_ok "$program" "${small[@]}" --epochs 1 --machine saved/mine/ || true
expect_ok env STARPU_CALIBRATE=1 "$program" "${small[@]}" --epochs 1 --machine "$scratch/saved/mine/" || true
expect "a machine that was trained with is as before" sh -c "diff -rq saved before >/dev/null"
(TESSERA_CACHE=$scratch/another calibrate gemm --n 80 --tile 40 --quiet --save "$scratch/saved/mine")
expect "what was saved from elsewhere stays" cmp {saved,before}/mine/codelets/45/linear_f32.mine
expect_ok "${perfmodel[@]}" show linear_f32 --machine saved/mine/ && expect "described as it was" grep -q 'W 32x16' out.txt
expect_ok "${perfmodel[@]}" show gemm_f32 --machine saved/mine/ && expect "what was measured is added" grep -q 'R 40x40' out.txt
expect_ok "$program" machine compose --gpus 1xh100 --link 25GB/s --gpu-memory 80G --out composed && cp -r composed composed.before
expect_error 2 "'composed' is another machine: .*H100" "$program" calibrate "${small[@]}" --save composed
expect "it is as it was" diff -rq composed composed.before
expect "a command that was refused is not noted" not grep -q 'composed' $facts
expect "the cache holds machines' folders, nothing loose" test -z "$(find cache/machines -mindepth 1 -maxdepth 1 \( -name bus -o -name codelets -o -name '*.json' \))"
expect_error 2 "unknown machine 'nosuch'" "$program" "${small[@]}" --machine nosuch
expect "train lists the known machines" grep -q '^hint: .*sirocco' err.txt
touch file
expect_error 1 "file/x" "$program" calibrate --save file/x "${small[@]}"
expect_error 2 '--save' "$program" calibrate --save '' "${small[@]}"
ln -s loop loop  # nobody can look at it
expect_error 1 "cannot use './loop': Too many levels" "${perfmodel[@]}" list --machine ./loop
for bad in .. . x/y 'a b' -x $'a\nb'; do
  expect_error 2 "machine '.*' is not a name: letters" "$program" calibrate --machine="$bad" "${small[@]}"
  expect_error 2 "unknown machine '" "${perfmodel[@]}" list --machine="$bad"
  expect_error 2 "cannot be a machine's name" env STARPU_HOSTNAME="$bad" "${perfmodel[@]}" list
done
for bad in .. . x/.. 'a b'; do expect_error 2 "cannot be a machine's name" "$program" calibrate --save "$bad" "${small[@]}"; done

# --- wrong use ---
for value in 0 9 -1 x 1.5 99999999999999999999; do expect_error 2 '--samples' "$program" calibrate --samples="$value" "${small[@]}"; done
expect_error 2 "command|--all" "$program" calibrate
expect_error 2 "did you mean 'train'" "$program" calibrate trian mlp
expect_error 2 "'--jsn'" "$program" calibrate train mlp --jsn
expect_error 1 "file" env TESSERA_CACHE="$scratch/file" "$program" calibrate "${small[@]}"

# --- damaged models ---
cp "$gemm" good
damage() {  # WHAT, PATTERN: the damaged file is there; list and check say so; training sets it aside
  cp "$gemm" damaged
  local code=0; "${perfmodel[@]}" list >out.txt 2>err.txt || code=$?
  expect "$1: list says so" test $code = 1 -a "$(grep -cE "^error: .*gemm_f32.here'.*$2" err.txt)" = 1
  expect "$1: list says how to mend it" grep -q '^hint: .*calibrate' err.txt
  expect "$1: and lists the others" test "$(grep -cE '^gemm_f32 +damaged' out.txt) $(grep -cE '^linear_f32 .*current' out.txt)" = "1 1"
  code=0; "${perfmodel[@]}" check >out.txt 2>err.txt || code=$?
  expect "$1: check finds it, with the command" test $code = 1 -a "$(grep -cE '^damaged +gemm_f32 .*tessera calibrate' out.txt)" = 1
  expect_ok "$program" "${small[@]}" --epochs 1 || true
  expect "$1: one note" test "$(grep -cE "^note: .*gemm_f32.here'.*$2.*measured again" err.txt)" = 1
  expect "$1: it is kept beside" cmp -s "$gemm.damaged" damaged
  expect_ok "${perfmodel[@]}" list || true
  rm -f "$gemm.damaged"; cp good "$gemm"
}
head -c $(($(stat -c %s good) / 2)) good >"$gemm"; damage 'cut off' 'cut off'
: >"$gemm"; damage 'empty' 'empty'
sed 's/^45$/44/' good >"$gemm"; damage 'another version' 'version 44'
sed '0,/^[0-9a-f]\{8\}\s/s//xyz\t/' good >"$gemm"; damage 'no footprint' 'footprint'
awk '/^[0-9a-f]+\t/ && !done { done = 1; $4 = 0 } { print }' good >"$gemm"; damage 'a mean of 0' 'no task takes'
awk 'after { after = 0; $0 = 9 } /device type/ { after = 1 } { print }' good >"$gemm"; damage 'an unknown device' 'type of a device is 9'
rm "$gemm"; ln -s gemm_f32.here "$gemm"  # a link to itself, which nobody can read
expect_error 1 "^error: cannot read '.*gemm_f32.here'" "${perfmodel[@]}" show gemm_f32
code=0; "${perfmodel[@]}" check >out.txt 2>err.txt || code=$?
expect "a model that cannot be read is a finding" test $code = 1 -a "$(grep -cE '^damaged +gemm_f32 +cannot read' out.txt)" = 1
rm "$gemm"; cp good "$gemm"
bus=cache/machines/here/bus; cp -r $bus good_bus; head -c 60 good_bus/here.bandwidth >$bus/here.bandwidth
expect_ok "$program" "${small[@]}" --epochs 1 || true
expect "a bus that is cut off: one note, kept, measured again" test "$(grep -c '^note: ' err.txt)" = 1 -a -d $bus.damaged -a -s $bus/here.config
rm -rf $bus $bus.damaged; mv good_bus $bus
facts=cache/machines/here/tessera.json; cp $facts good.json
head -c 300 good.json >$facts; expect_error 1 "tessera.json'.*(damaged|cut off)" "${perfmodel[@]}" list; cp good.json $facts
# One entry a thousand times slower: a finding, and training goes on.
awk '/^[0-9a-f]+\t/ && !done { done = 1; $4 *= 1000; $6 *= 1000; $7 *= 1e6 } { print }' good >"$gemm"
code=0; "${perfmodel[@]}" check --json >out.txt 2>err.txt || code=$?
expect "check finds the spike" test $code = 1 -a "$(grep -cE '^spike +gemm_f32' out.txt)" -ge 1
expect "with the command that mends it" sh -c "grep -E '^spike +gemm_f32' out.txt | grep -q 'tessera calibrate .*--reset'"
expect "check of a spike: JSON" last_line_is_json
cp good "$gemm"
sed 's/"hash": *"[^"]*"/"hash":"0"/' good.json >$facts
code=0; "${perfmodel[@]}" check >out.txt 2>err.txt || code=$?
expect "entries of another source are stale" test $code = 1 -a "$(grep -cE '^stale +gemm_f32' out.txt)" = 1
calibrate "${small[@]}" && expect "what is stale is measured again" test "$(json_value measured out.txt)" = "$measured"
cp good.json $facts

# --- killed at any moment: what was measured stays, no file is torn, and the next run completes ---
echo "KILL_SEED=$seed"
export TESSERA_CACHE=$scratch/killed
kept=0
for ((round = 1; round <= 4; ++round)); do
  after=$((RANDOM % 2500 + 200))
  "$program" calibrate "${small[@]}" --batch $((32 + round)) >k.txt 2>&1 </dev/null & victim=$!
  sleep "$((after / 1000)).$(printf %03d $((after % 1000)))"
  kill -9 $victim 2>/dev/null || true; wait $victim 2>/dev/null || true
  readable "killed after $after ms"
  now=$(sizes)
  expect "a kill after $after ms loses nothing ($kept, then $now sizes)" test "$now" -ge "$kept"
  kept=$now
done
calibrate "${small[@]}" --batch 36 && readable 'after the last kill'
calibrate "${small[@]}" --batch 36 && expect "it is complete then" test "$(json_value measured out.txt)" = 0
expect "temporary files and folders of the killed are gone" test -z "$(find killed -name '*.tmp-*' -o -path '*/scratch/*' -type d)"
timeout -s INT 2 "$program" calibrate --reset "${small[@]}" >k.txt 2>&1 </dev/null || true
readable 'after Ctrl-C'
calibrate "${small[@]}" --batch 36 && expect "what Ctrl-C leaves goes with the next run" test -z "$(find killed -path '*/scratch/*' -type d)"

# --- two at once, from nothing: neither takes the other's entries ---
export TESSERA_CACHE=$scratch/both
for batch in 40 24; do "$program" calibrate "${small[@]}" --batch $batch >"both$batch.txt" 2>&1 </dev/null & pids[batch]=$!; done
for batch in 40 24; do code=0; wait "${pids[batch]}" || code=$?; expect "the one with --batch $batch succeeds ($(tail -n 1 both$batch.txt))" test $code = 0; done
for batch in 40 24; do calibrate "${small[@]}" --batch $batch && expect "--batch $batch is there" test "$(json_value measured out.txt)" = 0; done
readable 'after two at once'
finish
