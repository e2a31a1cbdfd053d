#!/usr/bin/env bash
# tessera networks and tessera train with images: every network is listed, small ones train, and what does not fit is
# told in one line with layer and shapes.  usage: bash app_networks.sh PROGRAM SOURCE_DIR SCRATCH_DIR
set -euo pipefail
source "$(dirname "$0")/app_common.sh.inc"
source "$(dirname "$0")/app_json.sh.inc"
begin "$@"

# --- networks ---
if expect_ok "$program" networks; then
  for name in $(grep -ohE 'Architecture [a-z0-9_]+\("[a-z0-9_]+"' "$source"/graphs/networks/*.cpp | grep -oE '"[a-z0-9_]+"' | tr -d '"'); do
    expect "$name is listed" grep -qE "^$name +[0-9x]+ +[0-9,]+ " out.txt
  done
  expect "resnet50 has its parameters" grep -qE '^resnet50 .* 25,557,032 ' out.txt
fi
if expect_ok "$program" networks googlenet --input 32 --batch 2 --json; then
  expect "JSON is an array" grep -qE '^\[\{.*\}\]$' out.txt
  expect "a training step is wider than a forward pass" is_true "$(grep -oE '"parallelism":[0-9.]+' out.txt | cut -d: -f2 | paste -sd' ' | awk '{ print ($2 > $1) ? 1 : 0 }') == 1"
fi
expect_error 2 '--input is for networks of images, not for mlp' "$program" networks mlp --input 5
expect_error 2 "unknown network 'googelnet'" "$program" networks googelnet
expect "a suggestion is made" grep -q "did you mean 'googlenet'" err.txt

# --- training on images ---
train=("$program" train)
if expect_ok "${train[@]}" lenet5 --data digits:400 --batch 50 --epochs 10 --lr 0.1 --augment=crop --json --quiet; then
  expect "lenet5 learns digits: $(json_value test_accuracy out.txt)" is_true "$(json_value test_accuracy out.txt) > 0.3"
  expect "its parameters" test "$(json_value parameters out.txt)" = 61706
fi
plain=(resnet20 --data digits:64 --batch 32 --epochs 1 --quiet) small=("${plain[@]}" --width 0.25)
expect_ok "${train[@]}" "${small[@]}" --checkpoint c && cp -r c d
expect_ok "${train[@]}" "${small[@]}" --serial --dtype f64 --augment
expect_ok "${train[@]}" "${small[@]}" --deterministic --dtype bf16 --input 32
expect_ok "${train[@]}" googlenet --data digits:8 --batch 8 --width 0.1 --epochs 1 --quiet --auxiliary --input 64

# --- what does not fit ---
expect_error 1 'network resnet20, not resnet110' "${train[@]}" resnet110 "${small[@]:1}" --checkpoint d --resume
expect_error 1 'width 0.25, not 0.5' "${train[@]}" "${plain[@]}" --width 0.5 --checkpoint d --resume
expect_error 1 'augment none, not crop' "${train[@]}" "${small[@]}" --augment=crop --checkpoint d --resume
expect_error 1 'image 28x28, not 32x32' "${train[@]}" "${small[@]}" --input 32 --checkpoint d --resume
expect_error 2 'alexnet: features.*maps of .* shrink to nothing' "${train[@]}" alexnet --data digits:64 --batch 32
expect_error 2 "did you mean 'resnet20'" "${train[@]}" resnet2 --data digits:64
expect_error 2 '--hidden is for mlp' "${train[@]}" "${small[@]}" --hidden 3
expect_error 2 '--activation is for mlp' "${train[@]}" "${small[@]}" --activation relu
expect_error 2 '--augment is for networks of images' "${train[@]}" mlp --augment
expect_error 2 '--input is for networks of images' "${train[@]}" mlp --input 32
expect_error 2 "'spin' is neither crop nor flip" "${train[@]}" "${small[@]}" --augment=crop+spin
expect_error 2 'vgg11 has no auxiliary heads' "${train[@]}" vgg11 --data digits:64 --input 32 --auxiliary
expect_error 2 'no layer that --dropout is for' "${train[@]}" "${small[@]}" --dropout 0.5
expect_error 1 'images of 28 x 28 cannot become 8 x 8' "${train[@]}" "${small[@]}" --input 8
expect_error 1 'last batch of an epoch has 1 of 41 samples .41 mod 8.: mobilenet_v2: .*batch_norm' "${train[@]}" mobilenet_v2 --width 0.1 --data digits:41 --batch 8
expect "the hint is about the batch" grep -qx 'hint: choose a --batch that leaves another number' err.txt
expect_error 1 'needs a workspace .* TESSERA_WORKSPACE' env TESSERA_WORKSPACE=64 "${train[@]}" "${small[@]}"
for value in 0 -1 x nan; do expect_error 2 '--width' "${train[@]}" "${plain[@]}" --width "$value"; done
for value in 0 1 -1 x; do expect_error 2 '--input' "${train[@]}" "${small[@]}" --input "$value"; done
finish
