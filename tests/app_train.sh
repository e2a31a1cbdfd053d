#!/usr/bin/env bash
# Training from the outside: streams, JSON, files, determinism, accuracy, policies, and what stops it.
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
begin "$@"
train=("$program" train mlp)
small=("${train[@]}" --data digits:600 --hidden 64,32 --epochs 2)

# --- streams and the table ---
if expect_ok "${train[@]}" --data digits:3000 --epochs 6 --hidden 128,64 --json; then
  tail -n 1 out.txt >last.txt
  expect "the last line is one JSON object" grep -qE '^\{.*\}$' last.txt
  if command -v jq >/dev/null; then expect "jq parses it" sh -c 'jq -e . last.txt >/dev/null'; fi
  for key in network parameters epochs steps test_accuracy train_loss samples_per_s gflops seconds setup_seconds tasks efficiency \
    bound bound_kind peak_memory_bytes rss_bytes policy workers; do
    expect "the JSON has $key" grep -q "\"$key\":" last.txt
  done
  expect "no number of it is missing" sh -c '! grep -qE ":(null|nan|inf|-nan)" last.txt'
  accuracy=$(json_value test_accuracy out.txt)
  expect "six epochs of digits reach 90 % ($accuracy)" awk -v a="$accuracy" 'BEGIN { exit !(a > 0.9) }'
  expect "6 x 24 steps" test "$(json_value steps out.txt)" = 144
  expect "784 x 128 + 128 x 64 + 64 x 10 parameters and biases" test "$(json_value parameters out.txt)" = 109386
  expect "stdout has no JSON before the last line" test "$(grep -c '^{' out.txt)" = 1
  expect "one progress line per epoch" test "$(grep -c '^epoch ' err.txt)" = 6
  expect "piped progress has no carriage return or escape" sh -c '! grep -qE "$(printf "\r|\033")" err.txt out.txt'
fi
# Weights, gradients, momentum; a batch's images and activations.
expect_ok "$program" train mlp --data digits:640 --hidden 512,512 --batch 64 --epochs 2 --momentum 0.9 --json --quiet
tail -n 1 out.txt | sed 's/.*"peak_memory_bytes":{[^}]*"sum":\([0-9]*\).*/\1/' >peak.txt
expect "live memory ($(cat peak.txt)) is at most 1.3 times what a step needs" awk -v parameters="$(json_value parameters out.txt)" \
  '{ needed = 4 * (3 * parameters + 64 * (784 + 512 + 512 + 10)); exit !($1 > needed && $1 <= 1.3 * needed) }' peak.txt
expect_ok "${small[@]}" --quiet && expect "--quiet has an empty stderr" test ! -s err.txt
expect "without --json there is no JSON" sh -c '! grep -q "^{" out.txt'
if command -v script >/dev/null; then  # on a terminal the bar is taken away at the end
  script -qec "$(printf '%q ' "${small[@]}")" /dev/null </dev/null >terminal.txt 2>&1 || fail 'training on a terminal'
  expect "what is not known yet is left out" sh -c '! grep -qE "nan| 0 samples/s" terminal.txt'
  script -qec "stty cols 1; $(printf '%q ' "${small[@]}")" /dev/null </dev/null 2>&1 | tr '\r' '\n' >narrow.txt || fail 'training on a narrow terminal'
  expect "one column is not a line without end" sh -c '! grep -q "epoch.*step" narrow.txt'
  expect "on a terminal both epochs' lines stay" test "$(tr '\r' '\n' <terminal.txt | grep -c 'test ')" -ge 2
fi
if [ -c /dev/full ]; then
  code=0; "${small[@]}" --quiet --json >/dev/full 2>err.txt </dev/null || code=$?
  expect "results that cannot be written are a failure" test $code = 1
fi
code=0; { "${small[@]}" --quiet --json 2>err.txt </dev/null || code=$?; } | head -n 1 >/dev/null || true
expect "a reader that goes away makes no noise" sh -c '! grep -qiE "terminate|assert" err.txt'
if expect_ok "${small[@]}" --json --quiet --metrics two.jsonl; then
  expect "train_loss is the same in --json and --metrics" test "$(json_value train_loss out.txt)" = "$(json_value train_loss two.jsonl)"
fi
if expect_ok "${small[@]}" --validation 0.25 --quiet --plot held.svg; then  # of data that have a test set
  expect "a part that is held out takes the test set's place" grep -qE '^held-out accuracy ' out.txt
  expect "the picture names it, too" grep -q 'held-out accuracy' held.svg
fi
expect_ok "${small[@]}" --validation 0.25 && expect "so does the line of an epoch" grep -qE '^epoch 1/2 .* held-out ' err.txt
expect_ok "${small[@]}" --validation 0 --quiet && expect "nothing held out: the test set" grep -qE '^test accuracy ' out.txt

# --- files ---
if expect_ok "${small[@]}" --dag d.dot --dag-stats --plot p.svg --metrics m.jsonl --checkpoint ck --quiet; then
  expect "the DAG is one digraph" sh -c 'head -n 1 d.dot | grep -q "^digraph" && tail -n 1 d.dot | grep -qx "}"'
  expect "its braces and quotes match" awk '{ o += gsub(/\{/, ""); c += gsub(/\}/, ""); q += gsub(/"/, "") } END { exit !(o == c && q % 2 == 0 && o > 0) }' d.dot
  if command -v dot >/dev/null; then expect "Graphviz reads it" dot -Tplain d.dot -o d.plain; fi
  edges=$(grep -c -- '->' d.dot) said=$(sed -nE 's/.* ([0-9]+) dependencies.*/\1/p' out.txt)
  expect "--dag-stats counts the $edges edges of the file ($said)" test "$edges" = "$said"
  expect "--dag-stats says T1, Tinf, width" grep -qE 'T1 .*Tinf .*T1/Tinf .*width [0-9]+' out.txt
  expect "the plot is one SVG" sh -c 'grep -q "<svg[^>]*xmlns" p.svg && tail -n 1 p.svg | grep -q "</svg>"'
  if command -v xmllint >/dev/null; then expect "xmllint reads the plot" xmllint --noout p.svg; fi
  expect "the plot has no nan" sh -c '! grep -qiE "[\" ,](-?nan|inf)" p.svg'
  expect "every line of the metrics is an object" sh -c '! grep -qvE "^\{.*\}$" m.jsonl'
  if command -v jq >/dev/null; then expect "jq parses the metrics" sh -c 'jq -e . m.jsonl >/dev/null'; fi
  expect "a loss for each of 10 steps" test "$(losses m.jsonl | wc -l)" = 10
  expect "two epochs in the metrics" test "$(grep -c '"epoch"' m.jsonl)" = 2
  expect "the checkpoint folder holds one file" test "$(ls -A ck)" = checkpoint.safetensors
fi

# --- a picture of the whole training, whether it was interrupted or not ---
expect_ok "${small[@]}" --deterministic --quiet --plot whole.svg || true
expect_ok "${small[@]}" --deterministic --quiet --epochs 1 --checkpoint half --metrics half.jsonl || true
expect_ok "${small[@]}" --deterministic --quiet --checkpoint half --resume --metrics half.jsonl --plot resumed.svg || true
expect "a resumed run with --metrics draws the same curves" cmp -s whole.svg resumed.svg

# --- determinism ---
run() { local name=$1; shift; expect_ok "$@" --quiet --metrics "$name.jsonl" --json || return 0; losses "$name.jsonl" >"$name.txt"; json_value test_accuracy out.txt >"$name.acc"; }
same() { expect "$3: the same bits" cmp -s "$1.txt" "$2.txt"; expect "$3: the same accuracy" cmp -s "$1.acc" "$2.acc"; }
close() {  # relative 1e-3: a different order of sums, magnified over ten steps
  expect "$3: the same losses within 1e-3" sh -c "paste -d' ' $1.txt $2.txt | awk '{ d = \$2 - \$4; if (d < 0) d = -d; if (!(d <= 1e-3 * \$2)) bad = 1; n++ } END { exit bad || n != 10 }'"
}
run plain "${small[@]}"
run det "${small[@]}" --deterministic
run det2 "${small[@]}" --deterministic; same det det2 'two runs'
run one env STARPU_NCPU=1 "${small[@]}" --deterministic; same det one 'one worker'
run three env STARPU_NCPU=3 "${small[@]}" --deterministic; same det three 'three workers'
run flight env TESSERA_STEPS_IN_FLIGHT=1 "${small[@]}" --deterministic; same det flight 'one step in flight'
run serialdet "${small[@]}" --deterministic --serial; same det serialdet '--serial --deterministic'
run serial "${small[@]}" --serial; close det serial '--serial'; close det plain 'not deterministic'
run nan env TESSERA_CHECK_NAN=1 "${small[@]}" --deterministic; same det nan 'TESSERA_CHECK_NAN=1'
run tiled "${small[@]}" --deterministic --tile 24; close det tiled '--tile 24'
run seed "${small[@]}" --deterministic --seed 2
expect "--seed changes the losses" sh -c '! cmp -s det.txt seed.txt'
for policy in dmdas lws prio eager list dmda random; do
  run "$policy" env STARPU_SCHED="$policy" "${small[@]}" --deterministic; same det "$policy" "policy $policy"
  expect "$policy is what ran" test "$(json_value policy out.txt)" = "$policy"
done
for type in f64 bf16; do expect_ok "${small[@]}" --quiet --dtype $type || true; done
for activation in gelu tanh sigmoid silu none; do expect_ok "${small[@]}" --quiet --activation $activation || true; done
while read -r more; do
  # shellcheck disable=SC2086
  expect_ok "${train[@]}" --epochs 1 --quiet $more || true
done <<'END'
--data digits:600 --hidden none
--data digits:600 --hidden 1
--data digits:20 --hidden 16 --batch 1
--data digits:600 --hidden 16 --batch 480 --validation 0.2
--data digits:600 --hidden 16 --batch 7
--data digits:16 --hidden 3 --tile 1 --batch 8
--data digits:600 --hidden 16 --optimizer adamw --weight-decay 0.1
--data digits:600 --hidden 16 --nesterov
--data digits:600 --hidden 16 --momentum 0
--data digits:600 --hidden 16 --clip 0.01
--data digits:600 --hidden 16 --schedule step:3
--data digits:600 --hidden 16 --schedule cosine:99
--data digits:600 --hidden 16 --label-smoothing 0.1
--data digits:600 --hidden 16 --dropout 0.5
END

# --- what must stop it ---
expect_error 1 'loss is (NaN|infinite) at step [0-9]+ \(epoch 1\)' "${small[@]}" --lr 1e30 --quiet
for value in 1e30 1e38; do
  expect_error 1 '_f32 .*fc|_f32 .*loss' env TESSERA_CHECK_NAN=1 "${small[@]}" --lr $value --quiet
  expect "the message names a tile and a worker" grep -qE 'tile.*on CPU [0-9]|on CPU [0-9].*tile' err.txt
done
expect "the message of TESSERA_CHECK_NAN is one error line" test "$(grep -c '^error: ' err.txt)" = 1
expect_error 1 'workspace|TESSERA_WORKSPACE' env TESSERA_WORKSPACE=1 "${train[@]}" --data digits:600 --hidden 16 --epochs 1 --dtype bf16 --activation gelu --quiet
finish
