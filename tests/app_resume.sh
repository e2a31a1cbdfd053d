#!/usr/bin/env bash
# Killed 25 times at random moments and resumed each time, a run has bit for bit the losses and the accuracy of one that
# was left alone. Ctrl-C, finished runs and torn metrics as well. RANDOM_SEED=N repeats the moments.
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
begin "$@"
RANDOM=${RANDOM_SEED:-$(($(date +%s) % 32768))}
kills=25
# 30 samples a step and a dropout that follows the step: anything that a resume forgets shows in the losses.
command=("$program" train mlp --data digits:600 --batch 30 --hidden 64,32 --optimizer adam --dropout 0.1
  --deterministic --json)
cosine=("${command[@]}" --schedule cosine:10 --epochs 10)
checkpoint=ck/checkpoint.safetensors

expect_ok "${cosine[@]}" --metrics alone.jsonl --quiet || { finish; exit; }
losses alone.jsonl >alone.txt
accuracy=$(json_value test_accuracy out.txt)
expect "the undisturbed run has 200 losses" test "$(wc -l <alone.txt)" = 200
run() { "${cosine[@]}" --checkpoint ck --every 7 --resume --metrics killed.jsonl >out.txt 2>err.txt </dev/null; }

# Moments spread over start-up and the whole run, whatever the machine's speed, and at most 1.5 s.
begun=$(date +%s%N); "${cosine[@]}" --quiet >/dev/null; whole_ms=$((($(date +%s%N) - begun) / 1000000))
spread=$((whole_ms * 5 / 4)); [ $spread -lt 1450 ] || spread=1450
moments='' done_kills=0 finished=0
while [ $done_kills -lt $kills ]; do
  sleep_ms=$((50 + RANDOM % spread))
  # In a subshell that becomes the program: kill must not hit a shell in its place.
  (exec "${cosine[@]}" --checkpoint ck --every 7 --resume --metrics killed.jsonl >out.txt 2>err.txt </dev/null) & victim=$!
  sleep "$(printf '%d.%03d' $((sleep_ms / 1000)) $((sleep_ms % 1000)))"
  kill -9 $victim 2>/dev/null || true
  code=0; wait $victim 2>/dev/null || code=$?
  if [ $code = 0 ]; then  # it was faster than we: begin again from nothing, keeping what it proved
    finished=$((finished + 1))
    losses killed.jsonl >killed.txt
    expect "a resumed run that finished before the next kill has the same losses" cmp -s alone.txt killed.txt
    cmp -s alone.txt killed.txt || diff alone.txt killed.txt | head -5 || true
    rm -rf ck killed.jsonl
    continue
  fi
  done_kills=$((done_kills + 1))
  step=$(tail -n 1 killed.jsonl 2>/dev/null | sed -nE 's/.*"step":([0-9]+).*/\1/p' || true)
  moments+=" ${sleep_ms}ms@${step:--}"
  if [ $code != 137 ]; then fail "exit $code instead of a death by kill"; cut -c1-200 err.txt | head -3; fi
done
echo "killed after (moment@last step in the metrics):$moments; $finished runs finished in between"
expect "the last resume finishes" run
cp out.txt final.txt
losses killed.jsonl >killed.txt
expect "losses after $kills kills equal those of the undisturbed run" cmp -s alone.txt killed.txt
cmp -s alone.txt killed.txt || diff alone.txt killed.txt | head -5 || true
expect "the final accuracy is $accuracy" test "$(json_value test_accuracy final.txt)" = "$accuracy"
grep -o '"epoch":[0-9]*' alone.jsonl >a; grep -o '"epoch":[0-9]*' killed.jsonl >b || true
expect "every epoch has its line after the kills" cmp -s a b
expect "no temporary file of a killed run is left" test -z "$(find ck . -maxdepth 1 -name '*.tmp-*')"

# --- a finished run ---
sum=$(cksum <$checkpoint) lines=$(cksum <killed.jsonl)
expect "resuming a finished run succeeds" run
expect "it says that nothing is left to do" grep -qiE '200 of 200|nothing|finished|complete' err.txt
expect "it keeps the checkpoint" test "$sum" = "$(cksum <$checkpoint)"
expect "it keeps the metrics" test "$lines" = "$(cksum <killed.jsonl)"
expect "it reports the same accuracy" test "$(json_value test_accuracy out.txt)" = "$accuracy"
expect "it prints no nan or inf" sh -c '! grep -qiwE "nan|-nan|inf" out.txt'

# --- a torn last line, foreign lines ---
rm -rf ck killed.jsonl; "${command[@]}" --epochs 1 --checkpoint ck --metrics killed.jsonl --quiet >/dev/null
cp killed.jsonl whole.jsonl
printf '{"accuracy":0.5,"loss":1.2' >>killed.jsonl
expect_ok "${command[@]}" --epochs 2 --checkpoint ck --metrics killed.jsonl --quiet --resume || true
expect "a torn last line is dropped" test "$(grep -c '^{.*}$' killed.jsonl)" = "$(wc -l <killed.jsonl)"
expect "steps 0 to 39 are there once each" test "$(losses killed.jsonl | cut -d' ' -f1 | tr '\n' ' ')" = "$(seq 0 39 | tr '\n' ' ')"
printf '{"step":"x","loss":1}\n[1]\nnull\n\xff\xfe{\n{"loss":3}\n' >>killed.jsonl
expect_ok "${command[@]}" --epochs 3 --checkpoint ck --metrics killed.jsonl --quiet --resume || true
expect "foreign lines do no harm" test "$(losses killed.jsonl | wc -l)" = 60
expect_error 1 "step 60.*40" "${command[@]}" --epochs 2 --checkpoint ck --quiet --resume

# --- without metrics or checkpoint files there is nothing to resume: a fresh run ---
expect_ok "${command[@]}" --epochs 1 --checkpoint fresh --resume --quiet --metrics fresh.jsonl || true
expect "--resume without a checkpoint starts at step 0" test "$(losses fresh.jsonl | head -n 1 | cut -d' ' -f1)" = 0

# --- Ctrl-C and SIGTERM: prompt, the checkpoint whole ---
for signal in INT TERM; do
  rm -rf ck killed.jsonl
  # A shell gives its background jobs an ignored SIGINT, which programs inherit: env gives it back.
  env --default-signal=INT "${command[@]}" --epochs 4000 --checkpoint ck --every 5 --metrics killed.jsonl --quiet >out.txt 2>err.txt </dev/null & victim=$!
  for _ in $(seq 100); do [ -s $checkpoint ] && break; sleep 0.1; done
  sleep 0.3; begun=$(date +%s%N); kill -$signal $victim
  code=0; wait $victim 2>/dev/null || code=$?
  took=$((($(date +%s%N) - begun) / 1000000))
  expect "SIG$signal ends it within 3 s (took $took ms)" test $took -lt 3000
  expect "SIG$signal gives a failing exit code ($code)" test $code -ne 0
  expect "SIG$signal prints no trace of StarPU's" sh -c '! grep -qE "starpu|Assert|terminate" err.txt'
  timeout -s KILL 2 "${command[@]}" --epochs 4000 --checkpoint ck --resume --metrics killed.jsonl >out.txt 2>err.txt </dev/null || true
  expect "the checkpoint after SIG$signal can be resumed" grep -qE 'resumed at step [1-9]' err.txt
done
finish
