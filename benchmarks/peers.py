"""Sigmoid and tanh of other projects, as models that are exact to the bit.

Each is written from its published definition, which its docstring names, and takes input codes in
Q4.12: all 65,536 integers from -2**15 to 2**15 - 1, where ``x = code / 4096`` and so
``-8 <= x < 8``. What comes back is real numbers, in float64, which holds every result exactly but
those of the hard sigmoid, whose slope of 1/5 no binary fraction is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = [
    "FRACTION", "CODES", "ULP", "Approximation", "PEERS", "true_sigmoid", "true_tanh",
    "hls4ml_table", "hls4ml_sigmoid", "hls4ml_tanh", "tflite_table", "tflite_sigmoid",
    "tflite_tanh", "plan_sigmoid", "plan_tanh", "hard_sigmoid", "hard_tanh",
]

FRACTION = 12
ULP = 2.0**-FRACTION

# Every code of Q4.12, in order.
CODES = np.arange(-(1 << 15), 1 << 15)
CODES.flags.writeable = False

HLS4ML_SIZE = 1024
HLS4ML_WIDTH, HLS4ML_FRACTION = 18, 10
TFLITE_SIZE, TFLITE_WIDTH = 256, 16


@dataclass(frozen=True, kw_only=True)
class Approximation:
    """A sigmoid and a tanh.

    Parameters
    ----------
    name : str
        What the tables and the picture call it.
    sigmoid, tanh : callable
        From codes, int64 array in Q4.12, to real numbers, float64 array of the same shape.
    bits : int
        Bits of stored tables for both functions together. What is built of shifts, comparisons
        and constants has none.
    fraction : int or None
        Fraction bits of a result; None where the definition leaves it open.
    """

    name: str
    sigmoid: Callable[[np.ndarray], np.ndarray]
    tanh: Callable[[np.ndarray], np.ndarray]
    bits: int
    fraction: int | None


def true_sigmoid(codes: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) in float64, good to a few units of 2**-53."""
    return 1 / (1 + np.exp(-codes * ULP))


def true_tanh(codes: np.ndarray) -> np.ndarray:
    """tanh(x) in float64, good to a few units of 2**-53."""
    return np.tanh(codes * ULP)


@cache
def hls4ml_table(function: str) -> np.ndarray:
    """The table of hls4ml for ``"sigmoid"`` or ``"tanh"``.

    ``init_sigmoid_table`` and ``init_tanh_table`` of hls4ml 1.3, ``nnet_utils/nnet_activation.h``:
    entry k is the function at the lower end of its cell, x = range * (k / 512 - 1) with a range of
    8 for the sigmoid and of 4 for the tanh, computed in single precision. The default table type,
    ``ap_fixed<18, 8>``, has 10 fraction bits and drops what is below them (``AP_TRN``, towards
    minus infinity). The defaults of size and type are those of hls4ml's activation and LSTM
    layers.

    Returns
    -------
    int64 array, 1024
        Codes with 10 fraction bits.
    """
    reach = {"sigmoid": 8, "tanh": 4}[function]
    middle = HLS4ML_SIZE // 2
    x = np.float32(reach) * (np.arange(HLS4ML_SIZE, dtype=np.float32) - middle) / middle
    y = 1 / (1 + np.exp(-x)) if function == "sigmoid" else np.tanh(x)
    table = np.floor(y.astype(np.float64) * 2**HLS4ML_FRACTION).astype(np.int64)
    table.flags.writeable = False
    return table


def _hls4ml(codes: np.ndarray, function: str, reach: int) -> np.ndarray:
    # data * table_size / (2 * reach) is exact in ap_fixed; its conversion to int drops the
    # fraction towards zero, so that the two cells about 0 are one of twice the width.
    cell = (2 * reach << FRACTION) // HLS4ML_SIZE
    position = np.sign(codes) * (np.abs(codes) // cell)
    index = np.clip(position + HLS4ML_SIZE // 2, 0, HLS4ML_SIZE - 1)
    return hls4ml_table(function)[index] * 2.0**-HLS4ML_FRACTION


def hls4ml_sigmoid(codes: np.ndarray) -> np.ndarray:
    """``nnet::sigmoid`` of hls4ml 1.3 with its defaults; see `hls4ml_table`."""
    return _hls4ml(codes, "sigmoid", 8)


def hls4ml_tanh(codes: np.ndarray) -> np.ndarray:
    """``nnet::tanh`` of hls4ml 1.3 with its defaults; see `hls4ml_table`."""
    return _hls4ml(codes, "tanh", 4)


@cache
def tflite_table() -> np.ndarray:
    """``sigmoid_table_uint16`` of TensorFlow Lite and CMSIS-NN.

    Published as numbers, under the words "sigmoid(i/24) at 0.16 format", in TensorFlow Lite's
    ``kernels/internal/common.h`` and CMSIS-NN's ``arm_nntables.c``. The numbers are not those of
    the function itself: each lies above it by half of the largest error of a chord of width
    1/24, that is by ``|sigmoid''| / 24**2 / 16``, so that the interpolated line errs as much above
    the curve as below it. Rounded to nearest, that gives every published number but the last,
    which is full scale.

    Returns
    -------
    int64 array, 256
        Codes with 16 fraction bits, of sigmoid(i / 24).
    """
    s = 1 / (1 + np.exp(-np.arange(TFLITE_SIZE) / 24))
    raised = s + s * (1 - s) * (2 * s - 1) / 24**2 / 16
    table = np.rint(raised * 2**TFLITE_WIDTH).astype(np.int64)
    table[-1] = (1 << TFLITE_WIDTH) - 1
    table.flags.writeable = False
    return table


def _tflite_positive(magnitude: np.ndarray, remainder_bits: int) -> np.ndarray:
    """The interpolated sigmoid of a magnitude, with ``16 + remainder_bits`` fraction bits."""
    table = tflite_table()
    segment = magnitude >> remainder_bits
    low = np.minimum(segment, TFLITE_SIZE - 2)
    remainder = magnitude & (1 << remainder_bits) - 1
    line = (table[low] << remainder_bits) + remainder * (table[low + 1] - table[low])
    return np.where(segment >= TFLITE_SIZE - 1, table[-1] << remainder_bits, line)


def tflite_sigmoid(codes: np.ndarray) -> np.ndarray:
    """The int16 sigmoid of TensorFlow Lite, results with 15 fraction bits.

    ``reference_integer_ops::Logistic`` for int16, in TensorFlow Lite's
    ``kernels/internal/reference/integer_ops/logistic.h``, for an input scale of 2**-12
    (``input_multiplier`` and ``input_left_shift`` 0), as TensorFlow Lite Micro's integer LSTM
    calls it; CMSIS-NN's ``arm_nn_activation_s16`` is the same.
    """
    scaled = 3 * codes
    y = _tflite_positive(np.abs(scaled), 9)
    half = 1 << 9
    result = np.where(scaled >= 0, y + half, (1 << 16 + 9) - y + half - 1)
    return (result >> 10) * 2.0**-15


def tflite_tanh(codes: np.ndarray) -> np.ndarray:
    """The int16 tanh of TensorFlow Lite, results with 15 fraction bits.

    ``reference_integer_ops::Tanh`` for int16, in ``integer_ops/tanh.h`` beside the sigmoid's, for
    an input scale of 2**-12: 2 sigmoid(2 x) - 1 through the same table.
    """
    scaled = 3 * codes
    y = _tflite_positive(np.abs(scaled), 8)
    one, half = 1 << 14 + 9, 1 << 9 - 2
    result = np.where(scaled >= 0, y - one + half, -y + one + half - 1)
    return (result >> 8) * 2.0**-15


def plan_sigmoid(codes: np.ndarray) -> np.ndarray:
    """PLAN, the piecewise linear approximation of a nonlinear function.

    H. Amin, K. M. Curtis, B. R. Hayes-Gill, "Piecewise linear approximation applied to nonlinear
    function of a neural network", IEE Proceedings - Circuits, Devices and Systems 144(6), 1997,
    pp. 313-317. With x >= 0: x / 4 + 0.5 below 1, x / 8 + 0.625 below 2.375, x / 32 + 0.84375
    below 5, and 1 from there on; 1 minus that for the opposite argument. Shifts and additions
    only; no bit that is shifted out is dropped here.
    """
    x = np.abs(codes) * ULP
    y = np.select([x < 1, x < 2.375, x < 5], [x / 4 + 0.5, x / 8 + 0.625, x / 32 + 0.84375], 1.0)
    return np.where(codes < 0, 1 - y, y)


def plan_tanh(codes: np.ndarray) -> np.ndarray:
    """tanh(x) = 2 sigmoid(2 x) - 1 through `plan_sigmoid`."""
    return 2 * plan_sigmoid(2 * codes) - 1


def hard_sigmoid(codes: np.ndarray) -> np.ndarray:
    """clip(0.2 x + 0.5, 0, 1): the hard sigmoid of Keras 1 and 2, and ONNX's by default."""
    return np.clip(codes * ULP / 5 + 0.5, 0, 1)


def hard_tanh(codes: np.ndarray) -> np.ndarray:
    """tanh(x) = 2 sigmoid(2 x) - 1 through `hard_sigmoid`."""
    return 2 * hard_sigmoid(2 * codes) - 1


PEERS = (
    Approximation(name="hls4ml", sigmoid=hls4ml_sigmoid, tanh=hls4ml_tanh,
                  bits=2 * HLS4ML_SIZE * HLS4ML_WIDTH, fraction=HLS4ML_FRACTION),
    Approximation(name="TFLite", sigmoid=tflite_sigmoid, tanh=tflite_tanh,
                  bits=TFLITE_SIZE * TFLITE_WIDTH, fraction=15),
    Approximation(name="PLAN", sigmoid=plan_sigmoid, tanh=plan_tanh, bits=0, fraction=None),
    Approximation(name="hard sigmoid", sigmoid=hard_sigmoid, tanh=hard_tanh, bits=0,
                  fraction=None),
)
