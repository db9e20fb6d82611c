"""Exact definitions of the hard activation functions and of softsign, as other tools define them.

Each takes and gives a Fraction, without rounding. Frameworks compute them in floating point, with
constants such as 0.2 and 1/6 rounded to the type of the tensor; here the constants are exact.
"""

from fractions import Fraction

__all__ = [
    "hard_sigmoid_keras2", "hard_sigmoid_onnx", "hard_sigmoid_relu6", "hard_tanh", "relu6",
    "softsign",
]


def clip(x: Fraction, low: int, high: int) -> Fraction:
    """x, or the nearest of the two bounds where it lies beyond them."""
    return max(Fraction(low), min(Fraction(high), x))


def hard_sigmoid_onnx(x: Fraction, *, alpha: Fraction = Fraction(1, 5),
                      beta: Fraction = Fraction(1, 2)) -> Fraction:
    """max(0, min(1, alpha x + beta)).

    ONNX, operator HardSigmoid, https://onnx.ai/onnx/operators/onnx__HardSigmoid.html; alpha is 0.2
    and beta 0.5 where the node does not say, in every version of the operator. The activation
    HardSigmoid of ONNX's LSTM has the same definition and defaults. The attributes are of single
    precision, in which 0.2 is about 3e-9 above the 1/5 taken here.
    """
    return clip(alpha * x + beta, 0, 1)


def hard_sigmoid_keras2(x: Fraction) -> Fraction:
    """0 below -2.5, 1 above 2.5, and 0.2 x + 0.5 between.

    Keras 1 and 2, ``keras.backend.hard_sigmoid`` and ``keras.activations.hard_sigmoid``: ONNX's
    with its defaults. Keras 3 changed the function and kept the name; see `hard_sigmoid_relu6`.
    """
    return hard_sigmoid_onnx(x)


def relu6(x: Fraction) -> Fraction:
    """min(max(x, 0), 6): ``torch.nn.ReLU6`` and ``keras.activations.relu6``."""
    return clip(x, 0, 6)


def hard_sigmoid_relu6(x: Fraction) -> Fraction:
    """relu6(x + 3) / 6, that is 0 up to -3, 1 from 3 on, and x / 6 + 1/2 between.

    Keras 3, ``keras.activations.hard_sigmoid`` (``keras/src/activations/activations.py``); PyTorch,
    ``torch.nn.Hardsigmoid`` and ``torch.nn.functional.hardsigmoid``, which become ONNX's
    HardSigmoid with an alpha of 1/6.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardsigmoid.html
    """
    return relu6(x + 3) / 6


def hard_tanh(x: Fraction) -> Fraction:
    """-1 below -1, 1 above 1, and x between.

    Keras 3, ``keras.activations.hard_tanh`` (Keras 2 has none); PyTorch, ``torch.nn.Hardtanh`` with
    its default bounds. ONNX has no operator of this name: PyTorch exports a Clip from -1 to 1. It
    is not 2 s(2 x) - 1 of one of the hard sigmoids above, which has a slope of 4/5 or 2/3.
    """
    return clip(x, -1, 1)


def softsign(x: Fraction) -> Fraction:
    """x / (1 + |x|).

    ONNX, operator Softsign; PyTorch, ``torch.nn.Softsign``; Keras, ``keras.activations.softsign``.
    """
    return x / (1 + abs(x))
