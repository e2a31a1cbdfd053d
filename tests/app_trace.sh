#!/usr/bin/env bash
# --trace and --gantt of a training: every task once, nothing overlapping in a row, the losses as without them, and a
# path that cannot be written refused before anything runs.  usage: bash app_trace.sh PROGRAM SOURCE_DIR SCRATCH_DIR
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
source "$(dirname "$0")/app_json.sh.inc"
begin "$@"
train=("$program" train mlp --data digits:600 --hidden 64,32 --batch 64 --epochs 2 --quiet)

# --- the check itself: JSON and what only looks like it ---
for good in '{"a":[1,-2.5e3,{"b":"x\"y\u00e9"}],"c":null}' '[]' '{}'; do echo "$good" >j; expect "'$good' is JSON" valid_json j; done
for bad in '{"a":1,}' '[1 2]' '{"a":nan}' '{"a":01}' '{"a":"\x"}' '{a:1}' '{"a":1}{"b":2}' '{"a":-inf}' '[1' ''; do
  echo "$bad" >j; expect "'$bad' is not JSON" not valid_json j
done

# rows of complete events of one category: row, start, end in nanoseconds
spans() { sed -nE 's/^\{"ph":"X","pid":([0-9]+),"tid":([0-9]+),"ts":([-0-9.]+),"dur":([0-9.]+),.*/\1-\2 \3 \4/p' "$1" |
  awk '{ printf "%s %.0f %.0f\n", $1, $2 * 1000, ($2 + $3) * 1000 }' | sort -k1,1 -k2,2n -k3,3n; }

check_trace() {  # FILE TASKS WORKERS
  expect "$1 is one JSON object" valid_json "$1"
  if command -v jq >/dev/null; then expect "jq parses $1" sh -c "jq -e .traceEvents $1 >/dev/null"; fi
  local said; said=$(grep -c '"cat":"op"' "$1" || true)
  expect "$1 has a complete event for each of $2 tasks ($said)" test "$said" = "$2"
  expect "each names layer, tile and step" sh -c "! grep '\"cat\":\"op\"' $1 | grep -qvE '\"name\":\"[a-z0-9_]+\".*\"layer\":\".*\"tile\":\".*\"step\":[0-9]+'"
  expect "none of $2 tasks was dropped" grep -q '"dropped":0' "$1"
  local w; for w in $3; do expect "${w/_/ } has a row in $1" grep -q "\"thread_name\",\"args\":{\"name\":\"${w/_/ }" "$1"; done
  spans "$1" >spans.txt
  expect "nothing overlaps in a row of $1" awk '$1 == row && $2 < end { bad = 1 } $3 < $2 { bad = 1 } { row = $1; end = $3 } END { exit bad || NR == 0 }' spans.txt
}

# --- a run here ---
if expect_ok "${train[@]}" --deterministic --json --metrics with.jsonl --trace t.json --gantt t.svg; then
  tasks=$(json_value tasks out.txt)
  workers=$(json_value workers out.txt) names=""
  for ((w = 0; w < workers; ++w)); do names+=" CPU_$w"; done
  check_trace t.json "$tasks" "$names"
  expect "a mark for each of 20 steps" test "$(grep -cE '"name":"step [0-9]+"' t.json)" -ge 20
  expect "memory in use is a counter" grep -qE '"ph":"C","pid":3' t.json
  expect "t.svg is one SVG" sh -c 'grep -q "<svg[^>]*xmlns" t.svg && tail -n 1 t.svg | grep -q "</svg>"'
  if command -v xmllint >/dev/null; then expect "xmllint reads t.svg" xmllint --noout t.svg; fi
  expect "t.svg has no nan" sh -c '! grep -qiE "[\" ,](-?nan|inf)" t.svg'
  for w in $names; do expect "${w/_/ } is in the picture" grep -q "${w/_/ }" t.svg; done
fi
if expect_ok "${train[@]}" --deterministic --json --metrics without.jsonl; then
  losses with.jsonl >with.txt; losses without.jsonl >without.txt
  expect "20 losses" test "$(wc -l <with.txt)" = 20
  expect "the losses have the same bits with and without --trace" cmp -s with.txt without.txt
fi
if expect_ok env STARPU_NCPU=3 "${train[@]}" --json --trace three.json; then
  check_trace three.json "$(json_value tasks out.txt)" 'CPU_0 CPU_1 CPU_2'
fi
expect_ok env STARPU_NCPU=1 "${train[@]}" --serial --json --trace one.json && check_trace one.json "$(json_value tasks out.txt)" 'CPU_0'
expect_ok "${train[@]}" --gantt only.svg && expect "--gantt alone draws" grep -q '</svg>' only.svg

# --- paths: refused before training, nothing replaced ---
mkdir folder; echo precious >file; mkfifo pipe
for flag in trace gantt; do
  for path in none/x folder file/x pipe "$(printf 'n%.0s' $(seq 300))"; do
    rm -f m.jsonl; expect_error 1 "--$flag.*'$path'" "${train[@]}" --$flag "$path" --metrics m.jsonl
    expect "--$flag $path was refused before training" test ! -s m.jsonl
  done
  expect_error 2 "--$flag" "${train[@]}" --$flag ''
done
expect "a file in the way is left alone" grep -qx precious file
expect "a pipe is still a pipe" test -p pipe
if [ "$(id -u)" != 0 ]; then
  mkdir frozen; chmod 555 frozen; expect_error 1 "--trace.*'frozen/x'" "${train[@]}" --trace frozen/x; chmod 755 frozen
fi
if unshare -m sh -c "mount -t tmpfs -o size=64k none folder" 2>/dev/null; then
  for flag in trace gantt; do
    expect_error 1 "No space" unshare -m bash -c 'mount -t tmpfs -o size=4k none folder && exec "$@"' _ "${train[@]}" --$flag folder/x
  done
  unshare -m bash -c 'mount -t tmpfs -o size=16k none folder; "$@"; ls -A folder' _ "${train[@]}" --trace folder/x >full.txt 2>&1 </dev/null || true
  expect "no temporary file is left on a full disk" sh -c '! grep -q tmp- full.txt'
else note 'mounts are not allowed here: a full disk was not tried'; fi
expect "no temporary file is left" test -z "$(find . -name '*.tmp-*')"
finish
