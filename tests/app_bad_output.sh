#!/usr/bin/env bash
# Outputs that cannot be written and checkpoints that cannot be read: one line naming file, tensor and numbers; what
# was there before survives.
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
begin "$@"
export TESSERA_CACHE=$scratch/cache  # a limit of file sizes cuts models off, too: not those of tests that run beside
command=("$program" train mlp --data digits:200 --batch 50 --epochs 1 --hidden 16 --quiet)
bad() { expect_error 1 "$1" "${command[@]}" "${@:2}"; }

# --- paths ---
mkdir folder; echo precious >file
for flag in metrics plot dag; do
  bad "--$flag.*'none/x'" --$flag none/x
  bad "--$flag.*'folder'" --$flag folder
  bad "--$flag.*'file/x'" --$flag file/x
  bad "--$flag" --$flag "$(printf 'n%.0s' $(seq 300))"
done
expect_error 2 "two outputs .*'./x.svg'" "${command[@]}" --gantt x.svg --plot ./x.svg
expect_error 2 "two outputs .*'x'" "${command[@]}" --metrics x --dag x
expect_error 2 "two outputs .*'ck/checkpoint.safetensors'" "${command[@]}" --checkpoint ck --plot ck/checkpoint.safetensors
rm -rf ck; expect_ok "${command[@]}" --checkpoint ck --metrics ck/m.jsonl && expect "a file in the checkpoint's new folder is written" test -s ck/m.jsonl
rm -rf ck; expect_ok "$program" calibrate train mlp --data digits:200 --batch 50 --hidden 16 --quiet --checkpoint ck --resume --metrics m &&
  expect "calibrate leaves what training would write alone" test ! -e ck -a ! -e m
npy() { printf '\223NUMPY\001\000\166\000%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': $1, }"; head -c "$2" /dev/zero; }
npy '(20, 3)' 60 >x.npy; npy '(20,)' 20 >y.npy; ln -s x.npy x.link; sha256sum x.npy y.npy >sums
on_npy=("$program" train mlp --data npy:x.npy,y.npy --batch 5 --epochs 1 --hidden 4 --quiet)
expect_ok "${on_npy[@]}" --metrics other.npy
for flag in metrics plot dag gantt trace; do
  for file in x.npy ./y.npy x.link; do expect_error 2 "'$file', which this run reads" "${on_npy[@]}" --$flag $file; done
done
mkdir half; cp x.npy half/t10k-images-idx3-ubyte
expect_error 2 "'half/t10k-images-idx3-ubyte', which this run reads" "${command[@]}" --data mnist:half --metrics half/t10k-images-idx3-ubyte
expect "the files that were read are as before" sha256sum --quiet -c sums
bad "'file'" --checkpoint file
bad "'file/x'" --checkpoint file/x
mkdir -p ck/checkpoint.safetensors; bad "checkpoint.safetensors'" --checkpoint ck; rm -rf ck
expect "a file in the way is left alone" grep -qx precious file
if [ "$(id -u)" = 0 ]; then
  if mknod full c 1 7 2>/dev/null && { echo x >full; } 2>/dev/null; then note 'this device is never full'; fi
  if [ -c full ]; then  # a device must neither be filled nor replaced
    for flag in metrics plot dag; do bad "--$flag.*'full'" --$flag full; done
    expect "a device is still a device" test -c full
    rm -f full
  fi
  mkdir frozen; touch frozen/old
  if chattr +i frozen 2>/dev/null; then
    bad "--metrics.*'frozen/x'" --metrics frozen/x
    bad "'frozen" --checkpoint frozen
    bad "'frozen" --checkpoint frozen/new
    chattr -i frozen
  else note 'no chattr: a read-only folder was not tried'; fi
else
  mkdir frozen; chmod 555 frozen; bad "--metrics.*'frozen/x'" --metrics frozen/x; bad "'frozen" --checkpoint frozen; chmod 755 frozen
fi
mkfifo pipe; bad "--metrics.*'pipe'" --metrics pipe; expect "a pipe is still a pipe" test -p pipe
echo old >target; ln -s target link
expect_ok "${command[@]}" --metrics link && expect "a link's target is written, the link stays" test -L link -a -s target && expect "the target is new" grep -q loss target
expect "no temporary file is left" test -z "$(find . -name '*.tmp-*')"

# --- files that fail at the end: the results are there ---
expect_ok "${command[@]}" --quiet  # StarPU's own files are written without the limit
for flag in trace plot; do
  got=0; checks=$((checks + 1))  # at most 12 KiB a file; the signal of a larger one is ignored
  (trap '' XFSZ; ulimit -f 12; exec "${command[@]}" --batch 1 --epochs 3 --json --$flag large) >out.txt 2>err.txt </dev/null || got=$?
  [ $got = 1 ] || fail "--$flag beyond the limit: exit $got"
  expect "--$flag is what could not be written" grep -q "^error: cannot write '.*large'" err.txt
  expect "the results of training come before --$flag" sh -c 'grep -q "^test accuracy" out.txt && grep -q "^{.*test_accuracy" out.txt'
done

# --- a full disk: a mount of our own, gone with its namespace ---
if unshare -m true 2>/dev/null && unshare -m sh -c "mount -t tmpfs -o size=64k none folder" 2>/dev/null; then
  on_disk=(unshare -m bash -c 'mount -t tmpfs -o size=$1 none folder && exec "${@:2}"' _)  # SIZE command...
  expect_error 1 "checkpoint.safetensors.*No space" "${on_disk[@]}" 24k "${command[@]}" --checkpoint folder
  expect_error 1 "No space" "${on_disk[@]}" 4k "$program" train mlp --data digits:200 --hidden 16 --epochs 1 --batch 1 --quiet --metrics folder/m
  expect_error 1 "No space" "${on_disk[@]}" 4k "$program" train mlp --data digits:200 --hidden 16,16,16,16 --epochs 1 --batch 50 --tile 8 --quiet --dag folder/d.dot
  # The results of a product are there all the same.
  products() { timeout 60 "${on_disk[@]}" 4k "$program" gemm --n 200 --tile 32 --json --quiet "$@" >out.txt 2>err.txt </dev/null; echo $?; }
  for flags in "--trace folder/t.json" "--gantt folder/t.svg" "--verify --trace folder/t.json"; do
    # shellcheck disable=SC2086
    expect "a product without room for its picture exits 1" test "$(products $flags)" = 1
    expect "and says so in one line" test -z "$(error_noise err.txt)" -a -n "$(grep "No space" err.txt)"
    expect "after its results ($flags)" grep -q '^{.*"seconds":' out.txt
  done
  expect "a verified one" grep -q '"verified":"every' out.txt
  # The checkpoint of a wider disk survives a save that finds no room; resuming says what it found.
  unshare -m bash -c 'mount -t tmpfs -o size=160k none folder; "$@" --checkpoint folder; sum=$(cksum <folder/checkpoint.safetensors)
    head -c 400k /dev/zero >folder/ballast 2>/dev/null; "$@" --checkpoint folder --seed 2; echo "exit $?"
    [ "$sum" = "$(cksum <folder/checkpoint.safetensors)" ] && echo survived; ls folder' _ "${command[@]}" >full.txt 2>&1 </dev/null || true
  expect "a save without room exits 1" grep -qx 'exit 1' full.txt
  expect "the old checkpoint survives it" grep -qx survived full.txt
  expect "no temporary file is left of it" test "$(grep -c tmp- full.txt || true)" = 0
  [ "$failures" = 0 ] || sed 's/^/  /' full.txt | cut -c1-160 | tail -5
  for size in 4k 24k; do
    expect_error 1 "no room in 'folder/machines/.* KiB are free" "${on_disk[@]}" $size env TESSERA_CACHE=folder "${command[@]}"
  done
  # The models of runs before survive one that finds no room for its own.
  unshare -m bash -c 'mount -t tmpfs -o size=1m none folder; export TESSERA_CACHE=$PWD/folder STARPU_CALIBRATE=1; "$@"
    head -c 2m /dev/zero >folder/ballast 2>/dev/null; models() { cat folder/machines/*/codelets/45/* | cksum; }; sum=$(models)
    "$@" --hidden "$(seq -s, 17 48)"; echo "exit $?"; [ "$sum" = "$(models)" ] && echo survived' _ "${command[@]}" >full.txt 2>&1 </dev/null || true
  expect "a run without room for models exits 0" grep -qx 'exit 0' full.txt
  expect "and says that they are as they were" grep -q '^note: no room in .*: the performance models are as they were$' full.txt
  expect "they are" grep -qx survived full.txt
  [ "$failures" = 0 ] || sed 's/^/  /' full.txt | cut -c1-160 | tail -5
else note 'mounts are not allowed here: full disks were not tried'; fi

# --- checkpoints that do not fit the run ---
ck=ck/checkpoint.safetensors
expect_ok "${command[@]}" --checkpoint ck && cp $ck good
resume() { expect_error 1 "$1" "${command[@]}" --epochs 2 --checkpoint ck --resume "${@:2}"; }
mismatch() { resume "$ck.*$1" "${@:2}"; expect "the refused checkpoint is untouched ($1)" cmp -s $ck good; }
command=("$program" train mlp --data digits:200 --quiet)
mismatch 'hidden 16.*17' --batch 50 --hidden 17
mismatch 'hidden 16.*16,16' --batch 50 --hidden 16,16
mismatch 'optimizer sgd.*adam' --batch 50 --hidden 16 --optimizer adam --lr 0.1
mismatch 'optimizer sgd.*adam' --batch 50 --hidden 16 --optimizer adam  # whose default rate is another
mismatch 'batch 50.*40' --batch 40 --hidden 16
mismatch 'seed 1.*2' --batch 50 --hidden 16 --seed 2
mismatch 'dtype f32.*f64' --batch 50 --hidden 16 --dtype f64
mismatch 'lr 0.1.*0.2' --batch 50 --hidden 16 --lr 0.2
mismatch 'activation relu.*tanh' --batch 50 --hidden 16 --activation tanh
mismatch 'schedule|epochs' --batch 50 --hidden 16 --schedule cosine:2
command=("$program" train mlp --batch 50 --hidden 16 --quiet); mismatch 'samples 200.*300' --data digits:300
command=("$program" train mlp --data digits:200 --batch 50 --hidden 16 --quiet)

# --- other values of as many samples ---
expect_ok "${on_npy[@]}" --checkpoint ckn && cp ckn/checkpoint.safetensors good.npy && cp y.npy y.old
printf '\001' | dd of=y.npy bs=1 seek=$(($(stat -c %s y.npy) - 5)) conv=notrunc status=none
expect_error 1 "ckn/checkpoint.safetensors' was made with data_crc32 [0-9a-f]+, not [0-9a-f]+" "${on_npy[@]}" --epochs 2 --checkpoint ckn --resume
expect "a hint says that the data are others" grep -q '^hint: .*data' err.txt
cp y.old y.npy; expect_ok "${on_npy[@]}" --epochs 2 --checkpoint ckn --resume

# --- foreign and older ones ---
edit() {  # SED-EXPRESSION: good with another header
  local length; length=$(od -An -tu8 -N8 good | tr -d ' ')
  head -c $((8 + length)) good | tail -c +9 | sed "$1" >header
  length=$(stat -c %s header)
  for byte in 0 8 16 24 32 40 48 56; do printf "\\x$(printf %02x $((length >> byte & 255)))"; done >$ck
  cat header >>$ck; tail -c +$((9 + $(od -An -tu8 -N8 good | tr -d ' '))) good >>$ck
}
note() { edit 's|"step":"4"|"step":"2","note":"'"$(sed 's/"/\\\\"/g' <<<"$1")"'"|'; }
edit 's|"data_crc32":"[0-9a-f]*",||'; not_there=$(grep -c data_crc32 $ck || true)
expect "a checkpoint without data_crc32" test "$not_there" = 0
expect_ok "${command[@]}" --epochs 2 --checkpoint ck --resume
note '{"correct":20,"loss":230,"samples":100}'; expect_ok "${command[@]}" --epochs 2 --checkpoint ck --resume
for text in '{"correct":20,"loss":230,"samples":-100}' '{"correct":20,"loss":230,"samples":1e300}' '{"correct":20,"loss":1e300,"samples":100}' \
  '{"correct":101,"loss":230,"samples":100}' '{"correct":-1,"loss":230,"samples":100}' '{"correct":20,"loss":230,"samples":150}' '[1]' ''; do
  note "$text"; resume "$ck' does not say what its epoch had come to"
done
edit 's|"hidden":"16"|"hidden":"1\\u001b[31m\\n6"|'; resume "hidden '1\?.31m\?6', not 16"
edit 's|"hidden":"16"|"hidden":"'"$(printf 'x%.0s' $(seq 999))"'"|'; resume "hidden 'x{80}...', not 16"

# --- damaged ones ---
size=$(stat -c %s good)
damaged() { resume "$ck.*${1:-}"; cp good $ck; }                                     # pattern
poke() { printf "%b" "$2" | dd of=$ck bs=1 seek="$1" conv=notrunc status=none; }     # offset, bytes
swap_text() { sed "s|$1|$2|" good >$ck; cmp -s good $ck && fail "'$1' is not in the header"; return 0; }
for keep in 0 1 7 8 9 100 $((size / 2)) $((size - 1)); do head -c "$keep" good >$ck; damaged; done
cat good good >$ck; damaged
printf x >>$ck; damaged
for offset in 0 1 2 3 4 5 6 7; do poke $offset '\xff'; damaged; done                 # the header's length
poke 0 '\0\0\0\0\0\0\0\0'; damaged
poke 8 'X'; damaged
poke 9 '\0\0\0\0'; damaged
poke 60 '\xff\xfe'; damaged
poke 8 '{"a":[[[[[[[[[['; damaged
head -c 3000 /dev/urandom >$ck; damaged
echo '{"this is": "json, not safetensors"}' >$ck; damaged
{ printf '\x02\0\0\0\0\0\0\0{}'; } >$ck; damaged
swap_text '"F32"' '"F64"'; damaged
swap_text '"F32"' '"Q99"'; damaged
swap_text '\[16,784\]' '[784,16]'; damaged 'fc0.weight.*784.*16'
swap_text '\[16,784\]' '[16,-84]'; damaged
swap_text '\[16,784\]' '[99,999]'; damaged
swap_text 'fc1.weight"' 'fc9.weight"'; damaged "fc1.weight"
swap_text '"step":"4"' '"step":"x"'; damaged 'step'
swap_text '"step":"4"' '"stop":"4"'; damaged 'step'
swap_text '"step":"4"' '"step":"9"'; damaged 'step 9.*8'
swap_text '"data_offsets":\[0,' '"data_offsets":[8,'; damaged
rm $ck; mkdir $ck; resume "checkpoint.safetensors'"; rm -rf $ck; mkfifo $ck; resume "checkpoint.safetensors'"; rm -f $ck
random=0; while [ $random -lt 12 ]; do  # one wrong byte in the header: read, or refused in one line; never a crash
  at=$((RANDOM % 900)); cp good $ck; poke $at "\\x$(printf %02x $((RANDOM % 256)))"
  got=0; checks=$((checks + 1)); timeout 60 "${command[@]}" --epochs 1 --checkpoint ck --resume >out.txt 2>err.txt </dev/null || got=$?
  if [ $got -gt 1 ] || { [ $got = 1 ] && [ -n "$(error_noise err.txt)" ]; }; then fail "byte $at changed: exit $got"; cut -c1-200 err.txt | head -3; fi
  random=$((random + 1))
done
finish
