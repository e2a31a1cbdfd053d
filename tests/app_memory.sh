#!/usr/bin/env bash
# Training with tiles on disk gives the bits of training without; limits and folders that cannot work are one clear line.
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
source "$(dirname "$0")/app_json.sh.inc"
begin "$@"
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=1  # a sanitizer keeps no freed tiles resident
any=("$program" train mlp --data digits:600 --deterministic --quiet --json)
wide=("${any[@]}" --hidden 2048,2048 --tile 1024 --epochs 1)
small=("$program" train mlp --data digits:200 --batch 50 --hidden 16 --epochs 1 --quiet)

mkdir swap
[ "$(df -Pm swap | awk 'NR == 2 { print $4 }')" -gt 500 ] || skip "500 MiB of free disk are needed"
if expect_ok "${wide[@]}" --metrics free.jsonl; then
  free_rss=$(json_value rss_bytes out.txt)
  expect "without a limit nothing is said of traffic" not grep -q traffic out.txt
  free_peak=$(sed -nE '$s/.*"sum":([0-9]+).*/\1/p' out.txt)
  losses free.jsonl >free.txt
fi
if limit_s=200 expect_ok "${wide[@]}" --metrics tight.jsonl --host-memory 64M --swap swap; then
  losses tight.jsonl >tight.txt
  expect "the losses have the same bits with 64 MiB of memory" cmp -s free.txt tight.txt
  expect "the loss is that of the epoch" test "$(json_value train_loss out.txt)" = "$(json_value train_loss free.jsonl)"
  expect "live tiles stay below 64 MiB in main memory ($(grep -oE '"per_node":\[[0-9,]*' out.txt); $free_peak without)" \
    test "$(sed -nE '$s/.*"per_node":\[([0-9]+).*/\1/p' out.txt)" -le $((64 << 20))
  rss=$(json_value rss_bytes out.txt)  # tiles that are on disk are nowhere else
  expect "less is resident ($rss of $free_rss bytes)" test "$rss" -lt "$free_rss"
  expect "the traffic with the disk is told" grep -qE '^traffic +[0-9.]+ [KMG]iB from Disk 0 to NUMA 0' out.txt
  expect "and in JSON" grep -qE '"from":"NUMA 0","to":"Disk 0"' out.txt
  expect "no file is left in the swap folder" test -z "$(find swap -type f)"
  expect "no folder is left in the swap folder" test -z "$(find swap -mindepth 1)"
fi
rm -rf swap; mkdir swap; touch swap/mine
limit_s=200 expect_ok "${wide[@]}" --host-memory 96M --swap swap --checkpoint ck --every 2 || true
expect "files of others in the swap folder stay" test -e swap/mine
limit_s=200 expect_ok "${wide[@]}" --resume --host-memory 96M --swap swap --checkpoint ck || true  # written with, read with a limit
limit_s=200 expect_ok "${wide[@]}" --resume --checkpoint ck || true                                # and without

# --- interrupted out of core: nothing is left; killed: what is left does not stop the next run, and goes with it ---
ours() { find swap -mindepth 1 -name '.tessera-swap-*'; }
for signal in TERM HUP KILL; do
  "${any[@]}" --hidden 2048,2048 --tile 1024 --epochs 999 --host-memory 64M --swap swap >out.txt 2>err.txt </dev/null & victim=$!
  for _ in $(seq 300); do [ -z "$(ours)" ] || break; sleep 0.1; done
  sleep 2; expect "there is a swap folder before $signal" test -n "$(ours)"
  kill -$signal $victim 2>/dev/null || true; wait $victim 2>/dev/null || true
  [ $signal = KILL ] || expect "$signal leaves no swap folder" test -z "$(ours)"
done
limit_s=200 expect_ok "${wide[@]}" --host-memory 64M --swap swap --metrics again.jsonl && { losses again.jsonl >again.txt; expect "the same bits after a killed run" cmp -s free.txt again.txt; }
expect "what the killed run left is gone" test -z "$(ours)"
rm -rf swap; mkdir swap

# --- a policy that fetches ahead (the default with GPUs) must not fight over the last tiles of memory ---
limit_s=60 expect_ok env STARPU_SCHED=dmdas "${wide[@]}" --host-memory 96M --swap swap --checkpoint ahead --every 2 || true

# --- more than any machine has: refused before the kernel would end it ---
expect_error 1 'one step .*needs [0-9]+ MiB of memory; there are [0-9]+ MiB' "${small[@]}" --hidden 4000000,4000000 --tile 4000000
expect "the hint names the disk" grep -qE '^hint: .*--host-memory SIZE --swap DIR' err.txt
expect_error 1 'the matrices need [0-9]+ MiB of memory; there are [0-9]+ MiB' "$program" gemm --n 4000000 --quiet

# --- limits ---
expect_error 1 'memory limit of [0-9]+ bytes is too small: the largest task, [a-z_0-9]+ in .*, needs [0-9]+' "${wide[@]}" --host-memory 2M --swap swap
expect_error 1 'too small: the largest task' "${wide[@]}" --host-memory 16M --swap swap
expect "a refused run leaves nothing in the swap folder" test -z "$(find swap -mindepth 1)"
limit_s=200 expect_ok "${wide[@]}" --host-memory 24M --swap swap --tile 512 || true  # the hint of that error helps

# --- folders ---
touch file
expect_error 1 "'gone'" "${small[@]}" --host-memory 64M --swap gone
expect_error 1 "'file'" "${small[@]}" --host-memory 64M --swap file
expect_error 1 "'file/x'" "${small[@]}" --host-memory 64M --swap file/x
expect "a missing swap folder is not made" test ! -e gone
mkdir frozen
if [ "$(id -u)" != 0 ]; then
  chmod 555 frozen; expect_error 1 "swap folder 'frozen'" "${small[@]}" --host-memory 64M --swap frozen; chmod 755 frozen
elif chattr +i frozen 2>/dev/null; then
  expect_error 1 "swap folder 'frozen'" "${small[@]}" --host-memory 64M --swap frozen; chattr -i frozen
else note 'no chattr: a read-only folder was not tried'; fi
if unshare -m sh -c 'mount -t tmpfs -o size=8m none frozen' 2>/dev/null; then
  expect_error 1 "'frozen'.* [0-9]+ MiB" unshare -m bash -c 'mount -t tmpfs -o size=8m none frozen && "$@"' _ "${small[@]}" --host-memory 64M --swap frozen
  # Large enough to start, too small for what must go there: a clear end, neither a hang nor an abort.
  limit_s=30 expect_error 1 'swap|disk|space|memory' unshare -m bash -c 'mount -t tmpfs -o size=70m none frozen && "$@"' _ "${any[@]}" --hidden 4096,4096 --host-memory 220M --swap frozen
else note 'mounts are not allowed here: a small disk was not tried'; fi
finish
