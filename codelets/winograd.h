// codelets/winograd.h - 3 x 3 convolutions of stride 1 on the host, f32, by Winograd's minimal filtering F(4 x 4, 3 x
// 3): a quarter of the multiplications, and errors some times those of a plain sum. Lavin, Gray 2016, arXiv:1509.09308.
#pragma once
#include "codelets/conv2d.h"

namespace tessera::winograd {

// False, with nothing done, for other convolutions and where TESSERA_WORKSPACE is too small.
bool forward(const ConvArgs&, InList<float> x, In<float> w, In<float> b, Out<float> y);
bool data_gradient(const ConvGradientArgs&, In<float> dz, In<float> w, Out<float> dx);
bool weight_gradient(const ConvGradientArgs&, InList<float> x, In<float> dz, Acc<float> dw);

}  // namespace tessera::winograd
