#!/usr/bin/env bash
# Damaged, lying, missing and unfit data files: exit 1, one line that names the file, before any training.
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
begin "$@"
set +o pipefail  # "head -c" leaves its writers early

bytes() { printf "%b" "$(printf '\\x%02x' "$@")"; }                              # of numbers 0..255
be32() { bytes $(($1 >> 24 & 255)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255)); }
le16() { bytes $(($1 & 255)) $(($1 >> 8 & 255)); }
zeros() { head -c "$1" /dev/zero; }
bad() { expect_error 1 "$1" "$program" train mlp --epochs 1 --batch 4 --hidden 8 --data "${@:2}"; }  # pattern, source

# --- IDX ---
idx_images() { bytes 0 0 8 3; be32 "$1"; be32 4; be32 4; zeros $(($1 * 16)); }
idx_labels() { bytes 0 0 8 1; be32 "$1"; zeros "$1"; }
mnist() { rm -rf m; mkdir m; idx_images 40 >m/train-images-idx3-ubyte; idx_labels 40 >m/train-labels-idx1-ubyte; }
mnist; expect_ok "$program" train mlp --epochs 1 --batch 4 --hidden 8 --data mnist:m || true     # the whole one is read
images=m/train-images-idx3-ubyte labels=m/train-labels-idx1-ubyte
for size in 0 1 3 4 7 15 16 17 655; do mnist; idx_images 40 | head -c $size >$images; bad "$images" mnist:m; done
for size in 0 3 7 8 47; do mnist; idx_labels 40 | head -c $size >$labels; bad "$labels" mnist:m; done
mnist; zeros 1 >>$images; bad "$images" mnist:m                                          # a byte too many
mnist; { bytes 0 0 8 3; be32 4294967295; be32 4294967295; be32 4294967295; zeros 9; } >$images; bad "$images" mnist:m
mnist; { bytes 0 0 8 3; be32 65536; be32 65536; be32 65536; zeros 9; } >$images; bad "$images" mnist:m   # 2^48
mnist; { bytes 0 0 8 3; be32 2147483647; be32 4; be32 4; zeros 640; } >$images; bad "$images" mnist:m
mnist; { bytes 0 0 8 3; be32 0; be32 4; be32 4; } >$images; bad "$images" mnist:m
mnist; { bytes 0 0 8 3; be32 40; be32 0; be32 4; } >$images; bad "$images" mnist:m
mnist; { bytes 0 0 13 3; be32 40; be32 4; be32 4; zeros 2560; } >$images; bad "$images.*type" mnist:m
mnist; { bytes 0 0 8 255; zeros 999; } >$images; bad "$images.*rank" mnist:m
mnist; head -c 700 /dev/urandom | tr '\000' '\001' >$images; bad "$images" mnist:m
mnist; idx_labels 41 >$labels; bad "$images.*40.*$labels.*41" mnist:m
mnist; { bytes 0 0 8 1; be32 40; zeros 39; bytes 10; } >$labels; bad "$labels.*sample 39.*10" mnist:m
mnist; mv $images x; mv $labels $images; mv x $labels; bad 'm/train' mnist:m             # swapped
mnist; rm $labels; bad "no train-labels.*$images" mnist:m
mnist; idx_images 40 | gzip -c | head -c 30 >$images.gz; rm $images; bad "$images.gz" mnist:m
mnist; { bytes 31 139; zeros 50; } >$images.gz; rm $images; bad "$images.gz" mnist:m
mnist; rm $images; mkdir $images; bad "$images" mnist:m                                  # a folder in place of the file
mnist; { bytes 0 0 8 3; be32 4; be32 4; be32 2; zeros 32; } >m/t10k-images-idx3-ubyte; idx_labels 4 >m/t10k-labels-idx1-ubyte
bad "'m'.*16.*8" mnist:m                                                                 # training and test images differ
mnist; mv $images m/t10k-images-idx3-ubyte; mv $labels m/t10k-labels-idx1-ubyte           # the test images alone
expect_ok "$program" train mlp --epochs 1 --batch 4 --hidden 8 --data mnist:m --quiet &&
  expect "that the test images are trained on is said" grep -qx "data: 'm' has no training images of mnist: of its 40 test images 36 are trained on, 4 held out" err.txt
mkdir empty; bad "'empty'" mnist:empty; bad "'empty'" cifar10:empty; bad "'empty'" cifar100:empty
for kind in mnist cifar10 cifar100; do bad "'gone'" $kind:gone; bad "gone.npy" npy:gone.npy,gone.npy; done
touch file; bad "'file'" mnist:file; bad "'file'" cifar10:file

# --- CIFAR ---
cifar() { rm -rf c; mkdir c; zeros $((3073 * ${1:-40})) >c/data_batch_1.bin; }
cifar; expect_ok "$program" train mlp --epochs 1 --batch 4 --hidden 8 --data cifar10:c || true
for size in 0 1 3072 3074 122919; do cifar; zeros $size >c/data_batch_1.bin; bad "c/data_batch_1.bin.*$size bytes" cifar10:c; done
cifar; { zeros 3073; bytes 10; zeros 3072; } >c/data_batch_1.bin; bad 'c/data_batch_1.bin.*sample 1 .*10' cifar10:c
cifar; zeros 5000 >c/data_batch_2.bin; bad 'c/data_batch_2.bin' cifar10:c                # the second of two is bad
cifar; zeros 5000 >c/test_batch.bin; bad 'c/test_batch.bin' cifar10:c
mkdir c100; zeros 3073 >c100/train.bin; bad 'c100/train.bin' cifar100:c100               # records of the other CIFAR
cifar; rm c/data_batch_1.bin; mkdir c/data_batch_1.bin; bad 'c/data_batch_1.bin' cifar10:c

# --- npy ---
npy() {  # DESCR SHAPE: header; elements follow on stdin's behalf
  local dict="{'descr': '$1', 'fortran_order': ${3:-False}, 'shape': $2, }"
  bytes 147; printf NUMPY; bytes 1 0; le16 $((${#dict} + 1)); printf '%s\n' "$dict"
}
good_x() { npy '<f4' '(40, 3)'; zeros 480; }
good_y() { npy '<i4' '(40,)'; zeros 156; bytes 1 0 0 0; }
reset() { good_x >x.npy; good_y >y.npy; }
reset; expect_ok "$program" train mlp --epochs 1 --batch 4 --hidden 8 --data npy:x.npy,y.npy || true
for size in 0 5 6 9 10 40 90; do reset; good_x | head -c $size >x.npy; bad "x.npy" npy:x.npy,y.npy; done
reset; good_x | head -c -1 >x.npy; bad 'x.npy' npy:x.npy,y.npy
reset; zeros 1 >>x.npy; bad 'x.npy' npy:x.npy,y.npy
for shape in '(4611686018427387904, 4)' '(999999999999999999, 999999999999999999)' '(99999999999999999999,)' '(-40, 3)' '(40, 3' '(0, 3)' \
  '(40, 0)' '()' '(120,)' '(2, 20, 3)' '(40, 3, )x'; do
  reset; { npy '<f4' "$shape"; zeros 480; } >x.npy; bad 'x.npy' npy:x.npy,y.npy
done
for type in '>f4' '<f2' '<c8' '|O' '<i4' 'evil%s%n' ''; do reset; { npy "$type" '(40, 3)'; zeros 480; } >x.npy; bad 'x.npy' npy:x.npy,y.npy; done
reset; { npy '<f4' '(40, 3)' True; zeros 480; } >x.npy; bad 'x.npy.*Fortran' npy:x.npy,y.npy
reset; { bytes 147; printf NUMPY; bytes 1 0 255 255; zeros 99; } >x.npy; bad 'x.npy' npy:x.npy,y.npy
reset; { bytes 147; printf NUMPY; bytes 2 0 255 255 255 255; zeros 99; } >x.npy; bad 'x.npy' npy:x.npy,y.npy
reset; { bytes 147; printf NUMPY; bytes 9 0; zeros 99; } >x.npy; bad 'x.npy.*version' npy:x.npy,y.npy
reset; { npy '<f4' '(40, 3)'; zeros 16; bytes 0 0 192 127; zeros 460; } >x.npy; bad 'x.npy.*sample 1, feature 1 .*nan' npy:x.npy,y.npy
reset; { npy '<f4' '(40, 3)'; zeros 16; bytes 0 0 128 127; zeros 460; } >x.npy; bad 'x.npy.*sample 1, feature 1 .*inf' npy:x.npy,y.npy
reset; { npy '<f8' '(40, 3)'; zeros 6; bytes 240 127; zeros 952; } >x.npy; bad 'x.npy.*sample 0, feature 0' npy:x.npy,y.npy
reset; { npy '<i4' '(39,)'; zeros 156; } >y.npy; bad 'x.npy.*40.*y.npy.*39' npy:x.npy,y.npy
reset; { npy '<i4' '(40,)'; zeros 156; bytes 255 255 255 255; } >y.npy; bad 'y.npy.*sample 39.*-1' npy:x.npy,y.npy
reset; { npy '<i4' '(40,)'; zeros 156; bytes 255 255 255 127; } >y.npy; bad 'y.npy.*sample 39.*2147483647' npy:x.npy,y.npy
reset; { npy '<i8' '(40,)'; zeros 312; bytes 0 0 0 0 1 0 0 0; } >y.npy; bad 'y.npy.*sample 39.*4294967296' npy:x.npy,y.npy
reset; { npy '<f4' '(40,)'; zeros 160; } >y.npy; bad 'y.npy' npy:x.npy,y.npy
for type in '|b1' '<u2'; do  # the hint is one for labels
  reset; { npy "$type" '(40,)'; zeros $((40 * ${type: -1})); } >y.npy; bad 'y.npy.*element type' npy:x.npy,y.npy
  expect "the hint for labels of type $type names int32" grep -q '^hint: .*dtype=numpy.int32' err.txt
done
reset; mkfifo pipe; limit_s=10 bad "'pipe': not a regular file" npy:pipe,y.npy
reset; { npy '<i4' '(40, 1)'; zeros 160; } >y.npy; bad 'y.npy.*rank' npy:x.npy,y.npy
reset; bad 'x.npy' npy:x.npy,x.npy

# --- more wanted than there is ---
expect_error 1 'batch of 41 .*36 samples' "$program" train mlp --epochs 1 --batch 41 --data npy:x.npy,y.npy
expect_error 1 'batch of 201 .*200' "$program" train mlp --epochs 1 --batch 201 --data digits:200
for network in mlp lenet5; do
  expect_error 1 'batch of 9223372036854775807 .*200' "$program" train $network --epochs 1 --batch 9223372036854775807 --data digits:200
done
expect_error 2 'leaves none' "$program" train mlp --epochs 1 --batch 4 --validation 0.999 --data npy:x.npy,y.npy
finish
