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

# What Perfetto would drop or refuse, a line each: events without time, row or name, a negative time or duration, overlap
# within a row, rows and processes without a name, counters that are no numbers, kinds of events that would need more
# checks than these. Events stand one in a line; what `valid_json` sees is not looked for again.
trace_flaws() {  # FILE
  awk '
    function flaw(what) { if (flaws++ < 5) print FILENAME ":" NR ": " what ": " substr($0, 1, 120) }
    # What stands under a key of the event itself, which comes before its args.
    function of(key) {
      if (!match(head, "[{,]\"" key "\":(\"([^\"\\\\]|\\\\.)*\"|[^,\"]*)")) return ""
      return substr(head, RSTART + length(key) + 4, RLENGTH - length(key) - 4)
    }
    function is_time(x) { return x ~ /^[0-9]+(\.[0-9][0-9]?[0-9]?)?$/ }  # whole nanoseconds
    function is_id(x) { return x ~ /^[1-9][0-9]*$/ && length(x) < 10 }
    function ns(us) { return sprintf("%.0f", us * 1000) + 0 }
    NR == 1 { if ($0 != "{\"traceEvents\":[") flaw("the events do not come first"); next }
    /^\],"otherData":\{/ { ends++; last = NR; next }
    {
      args_at = index($0, ",\"args\":{")
      if (!args_at || $0 !~ /^\{"ph":"[MXCi]",/ || $0 !~ /\}\},?$/) { flaw("not an event of a known kind"); next }
      head = substr($0, 1, args_at); args = substr($0, args_at + 8)
      kind = substr($0, 8, 1); process = of("pid"); row = of("tid"); name = of("name"); at = of("ts")
      if (!is_id(process)) flaw("no process")
      if (row != "" && !is_id(row)) flaw("a row that is no number")
      if (name !~ /^"..*"$/) flaw("no name")
    }
    kind == "M" {
      if (name !~ /^"(process|thread)_(name|sort_index)"$/) flaw("metadata that nobody reads")
      if (name ~ /_name"$/ ? args !~ /^\{"name":".+"\}\},?$/ : args !~ /^\{"sort_index":[0-9]+\}\},?$/) flaw("metadata without its value")
      if (name ~ /^"thread/ && row == "") flaw("metadata of no row")
      if (said[name, process, row]++) flaw("said twice")
      if (row != "" && row in process_of && process_of[row] != process) flaw("a row of two processes")
      if (row != "") process_of[row] = process
      next
    }
    { used_process[process] = NR; if (!is_time(at)) { flaw("no time, or a negative one"); next } }
    kind == "X" {
      if (row == "") flaw("no row")
      if (!is_time(of("dur"))) flaw("no duration, or a negative one")
      used_row[process SUBSEP row] = NR
      if (ns(at) < free_from[row]) flaw("begins before the end of what is written before it in its row")
      free_from[row] = ns(at) + ns(of("dur"))
      spans++
    }
    kind == "C" {
      if (args !~ /^\{"[^"]+":[0-9]+(\.[0-9]+)?\}\},?$/) flaw("a counter that is no number, or a negative one")
      if (ns(at) < counted[process, name]) flaw("a counter that goes back in time")
      counted[process, name] = ns(at)
    }
    kind == "i" {  # of no row, it gets one without a name
      if (row == "" || of("s") != "\"t\"") flaw("an instant of no row")
      used_row[process SUBSEP row] = NR
    }
    END {
      for (p in used_process) if (!said["\"process_name\"", p, ""]) { $0 = "process " p; flaw("no name") }
      for (r in used_row) if (!(("\"thread_name\"" SUBSEP r) in said)) { $0 = "row " r; flaw("no name") }
      if (ends != 1 || last != NR) { $0 = ""; flaw("cut off") }
      if (!spans) { $0 = ""; flaw("no complete event") }
    }' "$1"
}
no_flaws() { local found; found=$(trace_flaws "$1"); [ -z "$found" ] || { echo "$found"; return 1; }; }

check_trace() {  # FILE TASKS WORKERS
  expect "$1 is one JSON object" valid_json "$1"
  if command -v jq >/dev/null; then expect "jq parses $1" sh -c "jq -e .traceEvents $1 >/dev/null"; fi
  local said; said=$(grep -c '"cat":"op"' "$1" || true)
  expect "$1 has a complete event for each of $2 tasks ($said)" test "$said" = "$2"
  expect "each names layer, tile and step" sh -c "! grep '\"cat\":\"op\"' $1 | grep -qvE '\"name\":\"[a-z0-9_]+\".*\"layer\":\".*\"tile\":\".*\"step\":[0-9]+'"
  expect "none of $2 tasks was dropped" grep -q '"dropped":0' "$1"
  local w; for w in $3; do expect "${w/_/ } has a row in $1" grep -q "\"thread_name\",\"args\":{\"name\":\"${w/_/ }" "$1"; done
  expect "Perfetto takes every event of $1" no_flaws "$1"
}

# Each of these changes to a good trace is seen.
check_the_check() {  # FILE
  local edit
  local edits=(
    '0,/"ph":"X"/ s/"ts":/"ts":-/' '0,/"dur":/ s/"dur":/"dur":-/' '0,/"dur":/ s/,"dur":[0-9.]*//' '0,/"ph":"X"/ s/,"ts":[0-9.]*//'
    '0,/"ph":"X"/ s/"dur":[0-9.]*/"dur":9e9/' '0,/"ph":"X"/ s/"dur":[0-9.]*/"dur":99999999/' '0,/"ph":"X"/ s/,"tid":[0-9]*//'
    '0,/"ph":"X"/ s/"ph":"X"/"ph":"B"/' '0,/"ph":"X"/ s/"pid":[0-9]*,/"pid":9,/' '0,/"ph":"X"/ s/"tid":[0-9]*/"tid":77/'
    '0,/"ph":"C"/ s/"bytes":[0-9]*/"bytes":"many"/' '0,/"ph":"C"/ s/"ph":"C","pid":3,"ts":[0-9]*/"ph":"C","pid":3,"ts":9999999999/'
    '/"name":"thread_name"/ d' '/"name":"process_name"/ d' '0,/thread_name/ s/"args":{"name":"[^"]*"/"args":{"name":""/'
    '0,/"s":"t"/ s/"s":"t"/"s":"g"/' '0,/"ph":"X"/ s/"name":"[^"]*"/"name":""/' '0,/thread_name/ { /thread_name/ p }' '$ d'
    '1 s/{/{"displayTimeUnit":"ns",/')
  for edit in "${edits[@]}"; do
    sed "$edit" "$1" >changed.json
    expect "'$edit' changes the trace" not cmp -s "$1" changed.json
    expect "'$edit' is seen" test -n "$(trace_flaws changed.json)"
  done
}

# --- a run here ---
if expect_ok "${train[@]}" --deterministic --json --metrics with.jsonl --trace t.json --gantt t.svg; then
  tasks=$(json_value tasks out.txt)
  workers=$(json_value workers out.txt) names=""
  for ((w = 0; w < workers; ++w)); do names+=" CPU_$w"; done
  check_trace t.json "$tasks" "$names"
  check_the_check t.json
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
    got=0
    unshare -m bash -c 'mount -t tmpfs -o size=4k none folder && exec "$@"' _ "${train[@]}" --$flag folder/x >out.txt 2>err.txt </dev/null || got=$?
    expect "--$flag on a full disk fails" test $got = 1
    expect "and says so" grep -q '^error: .*No space' err.txt
    expect "after the results" grep -q '^test accuracy' out.txt
  done
  unshare -m bash -c 'mount -t tmpfs -o size=16k none folder; "$@"; ls -A folder' _ "${train[@]}" --trace folder/x >full.txt 2>&1 </dev/null || true
  expect "no temporary file is left on a full disk" sh -c '! grep -q tmp- full.txt'
else note 'mounts are not allowed here: a full disk was not tried'; fi
expect "no temporary file is left" test -z "$(find . -name '*.tmp-*')"
finish
