// Coefficients of 2^x over half a unit to each side of a whole number, the highest power first. Every
// instruction set evaluates them in this order.
#pragma once

namespace edgesparse {

// To 1e-7 of its value.
constexpr float kFineExponential[] = {0.001326472731307149f, 0.009671512991189957f, 0.05550733581185341f,
                                      0.24022242426872253f,  0.6931470036506653f,   1.0f};
// To 1e-4 of its value, a fortieth of a step of the 8-bit weights.
constexpr float kCoarseExponential[] = {0.05500893294811249f, 0.24221095442771912f, 0.6932829022407532f,
                                        1.0f};
constexpr float kLog2Of255 = 7.994353436858858f;

constexpr float kLowest = -3.402823466e38f;
// 1.5 * 2^23: adding it to a float of a smaller magnitude rounds that to an integer.
constexpr float kRoundingShift = 12582912.0f;

}  // namespace edgesparse
