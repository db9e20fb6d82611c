"""Integer weights in ONNX files: ``QuantizeLinear`` and ``DequantizeLinear`` of constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto

from golden.model import ModelError
from golden.onnx_call import Call
from golden.onnx_values import Array, normal_axes

__all__ = ["dequantize", "dequantized", "kept", "quantize"]

RANGES = {
    TensorProto.UINT8: (np.uint8, 0, 255),
    TensorProto.INT8: (np.int8, -128, 127),
    TensorProto.UINT16: (np.uint16, 0, 65535),
    TensorProto.INT16: (np.int16, -32768, 32767),
    TensorProto.UINT4: (np.uint8, 0, 15),
    TensorProto.INT4: (np.int8, -8, 7),
}


def dequantized(array: NDArray[Any], scale: Array, zero: NDArray[Any]) -> Array:
    """``(array - zero) * scale``; all of them broadcast."""
    return (array.astype(np.float64) - zero.astype(np.float64)) * scale


def kept(*scales: Array) -> str:
    """What a design makes of weights with such scales."""
    if all(np.all(np.frexp(scale)[0] == 0.5) for scale in scales):
        return "whose bits a design keeps, since the scale is a power of two"
    return "which a design rounds anew, since the scale is no power of two"


def _scales(call: Call, shape: tuple[int, ...]) -> tuple[Array, NDArray[Any] | None]:
    """The scale and the zero point, ready to be broadcast to `shape`."""
    scale = call.weights(1, "the scale")
    zero = call.constant(2, "the zero point")
    if call.attribute("block_size", AttributeProto.INT, 0):
        raise ModelError("scales of blocks are not supported, only of whole tensors and axes")
    if np.any(scale <= 0):
        raise ModelError("the scale must be positive")
    if zero is not None and zero.shape != scale.shape:
        raise ModelError(
            f"the zero point must have the scale's shape, {list(scale.shape)}, not "
            f"{list(zero.shape)}"
        )
    if scale.size == 1:
        return scale.reshape(()), None if zero is None else zero.reshape(())
    (axis,) = normal_axes([call.attribute("axis", AttributeProto.INT, 1)], len(shape))
    if scale.shape != (shape[axis],):
        raise ModelError(
            f"the scale must have one element or {shape[axis]}, as the tensor along axis {axis}, "
            f"not the shape {list(scale.shape)}"
        )
    spread = (-1, *[1] * (len(shape) - axis - 1))
    return scale.reshape(spread), None if zero is None else zero.reshape(spread)


def quantize(call: Call) -> NDArray[Any]:
    """ONNX ``QuantizeLinear``: round to even, saturate."""
    array = call.weights(0, "the tensor")
    scale, zero = _scales(call, array.shape)
    named = call.attribute("output_dtype", AttributeProto.INT, 0)
    if zero is not None:
        types = {np.dtype(RANGES[kind][0]): RANGES[kind] for kind in list(RANGES)[:4]}
        if zero.dtype not in types:
            raise ModelError(f"the zero point must be of 8 or 16 bits, not {zero.dtype}")
        dtype, least, most = types[zero.dtype]
    else:
        if (named or TensorProto.UINT8) not in RANGES:
            raise ModelError(f"output_dtype must be an integer of at most 16 bits, not {named}")
        dtype, least, most = RANGES[named or TensorProto.UINT8]
    shift = 0.0 if zero is None else zero.astype(np.float64)
    # In single precision, as runtimes divide: at a tie the last bit decides.
    quotient = (array.astype(np.float32) / scale.astype(np.float32)).astype(np.float64)
    return np.clip(np.rint(quotient) + shift, least, most).astype(dtype)


def dequantize(call: Call) -> NDArray[Any]:
    """ONNX ``DequantizeLinear``."""
    array = call.constant(0, "the tensor")
    # Integers of 4 bits are of the ml_dtypes package's kind.
    if array is None or "int" not in array.dtype.name:
        raise ModelError("the tensor must be integers")
    scale, zero = _scales(call, array.shape)
    count = "one scale" if scale.size == 1 else f"{scale.size} scales"
    call.note(
        f"turns weights of the type {array.dtype} with {count} into the numbers that they stand "
        f"for, {kept(scale)}"
    )
    shift = np.zeros(()) if zero is None else zero
    return dequantized(array, scale, shift)
