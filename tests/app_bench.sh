#!/usr/bin/env bash
# tessera bench: every subcommand prints its figures, in a table and as JSON, and refuses what cannot be measured.
# usage: bash app_bench.sh PROGRAM SOURCE_DIR SCRATCH_DIR
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
source "$(dirname "$0")/app_json.sh.inc"
begin "$@"
bench=("$program" bench)

has_figures() {  # KEY...
  expect "the last line is JSON" last_line_is_json
  local key; for key in "$@"; do
    expect "$key is positive" is_true "$(json_value "$key" out.txt) + 0 > 0"
  done
}
has_rows() { local row; for row in "$@"; do expect "the table has $row" grep -qE "^$row" <(grep -v '^{' out.txt); done; }

if expect_ok "${bench[@]}" overhead --tasks 200 --rounds 2 --json; then
  has_figures {,submit_,run_,at_once_}{tessera,bare}_us
  figures='( +[0-9.]+){2} +-?[0-9.]+$'
  has_rows '200 tasks of add_f32, [a-z]+, [0-9]+ workers?' 'us per task +tessera' "submitted, workers pause$figures" "then run$figures" "one after the other$figures" "both at once$figures" 'difference: median'
  expect "a line for each round" test "$(grep -cE '^round [12] of 2$' err.txt)" = 2
fi
expect_error 2 '--tasks: more than 20000' "${bench[@]}" overhead --tasks 20001
expect_ok "${bench[@]}" overhead --tasks 20000 --rounds 1 --quiet && expect "no progress" test ! -s err.txt
expect "no JSON without --json" not grep -qE '^\{|_us' out.txt
if expect_ok "${bench[@]}" gemm --n 64 --repeat 2 --rounds 1 --json; then
  has_figures tessera_gflops ratio_onednn
  has_rows '64 x 64 x 64 on each of [0-9]+ workers?, [a-z]+' 'GFLOP/s' 'oneDNN( +[0-9.]+){3}' 'OpenBLAS( +[0-9.]+){3}' 'as models choose'
fi
if expect_ok "${bench[@]}" product --n 64 --rounds 1 --json; then
  has_figures tessera_gflops ratio_to_better
  has_rows '64 x 64 x 64, tiles of [0-9]+' 'tessera' 'OpenBLAS( +[0-9.]+){2}' 'oneDNN( +[0-9.]+){2}' 'tessera / the better of the two: [0-9.]+'
fi

# --- trace: tasks of about the wanted length, their number rounded up to whole steps ---
if expect_ok "${bench[@]}" trace --task-us 100 --tasks 100 --rounds 3 --json; then
  has_figures ratio ratio_low ratio_high ratio_plain task_us plain_us traced_us n tasks
  has_rows "$(json_value tasks out.txt) tasks, 3 rounds" 'task +[0-9.]+ us' 'without a trace' 'with one' 'ratio +[0-9.]+, quartiles' 'two plain turns'
  expect "at least as many tasks as wanted" is_true "$(json_value tasks out.txt) >= 100"
  expect "tasks of 100 us, more or less: $(json_value task_us out.txt)" is_true \
    "$(json_value task_us out.txt) > 20 && $(json_value task_us out.txt) < 500"
  expect "a ratio of two like runs: $(json_value ratio out.txt)" is_true "$(json_value ratio out.txt) > 0.3 && $(json_value ratio out.txt) < 3"
  expect "quartiles surround it" is_true "$(json_value ratio_low out.txt) <= $(json_value ratio out.txt) && $(json_value ratio out.txt) <= $(json_value ratio_high out.txt)"
fi
if expect_ok env STARPU_SCHED=dmdas "${bench[@]}" trace --task-us 1 --tasks 1 --rounds 1 --json; then
  expect "the policy is named" test "$(json_value policy out.txt)" = dmdas
fi
# --- interop: both ways here, then on machines that are not here ---
if expect_ok "${bench[@]}" interop pathnet --batch 4 --rounds 1 --steps 1 --machines none --json; then
  for key in t1_seconds tinf_seconds eta bound serial_seconds concurrent_seconds gain forward_gain parameters; do
    expect "$key is positive" is_true "$(json_value "$key" out.txt) > 0"
  done
  expect "the longest path is no longer than all tasks" is_true "$(json_value tinf_seconds out.txt) <= $(json_value t1_seconds out.txt)"
  expect "the table has both" grep -qE '^training step +[0-9.]+ [mu]?s +[0-9.]+ [mu]?s +[0-9.]+' out.txt
fi
expect_error 2 "--machines 'sirocco' is not" "${bench[@]}" interop pathnet --machines sirocco
if [ -x "$(dirname "$program")/../sim/tessera-sim" ] || [ -x "$(dirname "$program")/../libexec/tessera-sim" ]; then
  interop=("${bench[@]}" interop pathnet --quiet --batch 4 --rounds 1 --steps 1 --machines)
  expect_error 2 "--machines 'nosuch:1': unknown machine 'nosuch'" "${interop[@]}" nosuch:1
  expect_error 2 "--machines 'sirocco:9': .*has 4 GPUs" "${interop[@]}" sirocco:9
  expect_error 2 "--machines 'sirocco:0:0': no device" "${interop[@]}" sirocco:0:0
  expect_ok "${interop[@]}" sirocco:1 && expect "one line has no speed-up" grep -qE '^sirocco +1 +0 +1 +[0-9.]+ .?s +- ' out.txt
else note 'tessera-sim is not built: no machine was simulated'; fi
expect_ok "${bench[@]}" interop --help && expect "--batch is explained" grep -qE '^ +--batch .*[A-Za-z]+ in a step' out.txt
expect_error 2 "--input: '1' is not a whole number of at least 2" "${bench[@]}" interop resnet20 --machines none --input 1
expect_error 2 "unknown network" "${bench[@]}" interop pathnets --machines none
for flag in task-us tasks rounds; do
  for bad in 0 -1 x ''; do expect_error 2 "--$flag" "${bench[@]}" trace --$flag="$bad"; done
done
expect_error 2 'more than 10000' "${bench[@]}" trace --task-us 10001
expect_error 2 "did you mean 'trace'" "${bench[@]}" trac
expect_error 1 'needs a CPU worker|no worker' env STARPU_NCPU=0 "${bench[@]}" trace
finish
