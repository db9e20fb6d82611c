"""The bits that a network's numbers take, before any hardware is chosen for it."""

from __future__ import annotations

from golden.lstm import LSTM
from golden.model import Network
from golden.order import kept_whole, orders

__all__ = ["footprint", "parameters_of"]


def parameters_of(layer: LSTM) -> tuple[int, int]:
    """Weights and biases of a direction, and its products with weights in a step."""
    matrices = layer.w_x.size + layer.w_h.size
    peepholes = 0 if layer.peepholes is None else layer.peepholes.size
    if layer.projection is not None:
        matrices += layer.projection.size
    return matrices + peepholes + layer.bias.size, matrices + peepholes


def footprint(network: Network, *, bits: int, longest: int) -> dict[str, int]:
    """Bits of memory by kind, as many as there are numbers to hold.

    Hardware takes more where these do not fill the words of a memory, or the memory a block of the
    device.

    - ``weights``: of all matrices and peepholes.
    - ``biases``: as wide as they can get, ``2 bits + 4`` (:mod:`golden.calibrate`); twice where a
      sequence begins with hidden states.
    - ``steps and states``: for each direction two steps of its input and of its hidden states, one
      being written while the other is read, and its cell states; two steps of the input of each
      dense layer.
    - ``sequences``: where the steps of whole sequences are kept, two of them.

    Parameters
    ----------
    network : Network
    bits : int
        Width of weights, inputs and states.
    longest : int
        Steps of a sequence, at most.
    """
    weights = biases = numbers = sequences = 0
    for layer in network.layers:
        for each in layer.directions:
            of_all, products = parameters_of(each)
            weights += products
            biases += (of_all - products) * (1 if each.initial_h is None else 2)
            numbers += 2 * (each.inputs + each.outputs) + each.hidden
    for dense in network.head:
        weights, biases = weights + dense.w.size, biases + dense.bias.size
        numbers += 2 * dense.inputs
    whole, order = kept_whole(network), orders(network)
    features = [network.inputs, *(layer.directions[0].outputs for layer in network.layers)]
    for n, written in enumerate(features):
        single = n == len(network.layers) and not network.every_step
        if whole[n]:
            sequences += 2 * (1 if single else longest) * written * len(order[n])
    return {"weights": weights * bits, "biases": biases * (2 * bits + 4),
            "steps and states": numbers * bits, "sequences": sequences * bits}
