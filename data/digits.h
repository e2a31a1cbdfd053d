// data/digits.h - handwritten-like digits, 28 x 28 grey, made by the project: a data set for machines without network.
// Pen strokes through jittered points, distorted, drawn with a random pen, then noise and stray strokes.
#pragma once
#include "data/dataset.h"

namespace tessera {

// Samples first <= i < first + count of the endless sequence that belongs to `seed`; every ten from a multiple of ten
// on hold each digit once. Integer arithmetic only: the bytes are the same on every machine. Feature = byte / 255.
Dataset make_digits(int64_t count, uint64_t seed, int64_t first = 0);

}  // namespace tessera
