"""Random quantised networks, with formats and numbers that reach into every corner."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from golden.fixed import SQ, UQ, Format
from golden.formats import DenseFormats, LSTMFormats
from golden.quantized import QuantizedDense, QuantizedLSTM
from golden.quantized_network import QuantizedNetwork
from hdl.cycles import Folding
from hdl.foldings import choose_drain
from hdl.pipeline import SHORT, Pipeline

__all__ = ["FORMATS", "STANDARD", "expected_words", "folded", "peepholed", "random_codes",
           "random_network", "random_projection", "random_sequences"]

STANDARD = LSTMFormats(x=SQ(1, 15), h=SQ(1, 15), c=SQ(4, 12), w_x=SQ(3, 13), w_h=SQ(3, 13),
                       z=SQ(5, 15), gate=UQ(1, 15), tanh=SQ(2, 14))

# Each differs from the others in which binary points lie above which.
FORMATS = {
    "16 bits": STANDARD,
    "8 bits": LSTMFormats(x=SQ(2, 6), h=SQ(1, 7), c=SQ(3, 5), w_x=SQ(2, 6), w_h=SQ(3, 5),
                          z=SQ(4, 7), gate=UQ(1, 7), tanh=SQ(2, 6)),
    "tanh as fine as the gates": LSTMFormats(
        x=SQ(1, 9), h=SQ(1, 9), c=SQ(5, 9), w_x=SQ(4, 8), w_h=SQ(4, 8),
        z=SQ(5, 6), gate=UQ(1, 9), tanh=SQ(2, 9)),
    "products coarser than z": LSTMFormats(
        x=SQ(1, 3), h=SQ(1, 4), c=SQ(4, 4), w_x=SQ(4, 3), w_h=SQ(5, 2),
        z=SQ(5, 11), gate=UQ(1, 9), tanh=SQ(2, 7)),
    "c finer than the candidate": LSTMFormats(
        x=SQ(1, 7), h=SQ(0, 10), c=SQ(2, 16), w_x=SQ(4, 12), w_h=SQ(4, 9),
        z=SQ(5, 4), gate=UQ(1, 8), tanh=SQ(2, 7)),
}


def random_codes(rng: np.random.Generator, to: Format, shape: tuple[int, ...],
                 size: float = 1.0) -> np.ndarray:
    """Codes of ``to`` up to ``size`` of its range, with its extremes among them."""
    codes = rng.integers(int(to.min * size), int(to.max * size), shape, endpoint=True)
    return np.where(rng.random(shape) < 0.1, rng.choice([to.min, to.max], shape), codes)


def random_projection(formats: LSTMFormats) -> LSTMFormats:
    """The formats of a layer with a projection, that saturates now and then."""
    h = formats.h
    return replace(formats, m=SQ(1, h.f + 1), w_r=SQ(2, 6))


def random_network(rng: np.random.Generator, formats: LSTMFormats, inputs: int,
                   hidden: tuple[int, ...], outputs: int | None, *, every_step: bool,
                   size: float = 1.0, projected: Sequence[int | None] = ()) -> QuantizedNetwork:
    """``projected`` says how many hidden states a projection makes in the first layers."""
    layers: list[QuantizedLSTM] = []
    for units, states in zip_longest(hidden, projected[:len(hidden)]):
        own = formats if not layers else LSTMFormats(
            x=formats.h, h=formats.h, c=formats.c, w_x=formats.w_h, w_h=formats.w_h, z=formats.z,
            gate=formats.gate, tanh=formats.tanh)
        columns = layers[-1].outputs if layers else inputs
        limit = 4 << own.product_fraction
        if states:
            own = random_projection(own)
            assert own.w_r is not None
            layers.append(QuantizedLSTM(
                formats=own, w_x=random_codes(rng, own.w_x, (4 * units, columns), size),
                w_h=random_codes(rng, own.w_h, (4 * units, states), size),
                bias=rng.integers(-limit, limit, 4 * units),
                projection=random_codes(rng, own.w_r, (states, units))))
            continue
        layers.append(QuantizedLSTM(
            formats=own, w_x=random_codes(rng, own.w_x, (4 * units, columns), size),
            w_h=random_codes(rng, own.w_h, (4 * units, units), size),
            bias=rng.integers(-limit, limit, 4 * units)))
    head: tuple[QuantizedDense, ...] = ()
    if outputs:
        dense = DenseFormats(x=formats.h, w=SQ(2, 9), y=SQ(3, 8))
        limit = 1 << dense.product_fraction
        head = (QuantizedDense(formats=dense,
                               w=random_codes(rng, dense.w, (outputs, layers[-1].outputs)),
                               bias=rng.integers(-limit, limit, outputs)),)
    return QuantizedNetwork(layers=tuple(layers), head=head, every_step=every_step)


def peepholed(rng: np.random.Generator, network: QuantizedNetwork) -> QuantizedNetwork:
    """The network with random peepholes, as fine as the weights of h where they may be."""
    layers = []
    for layer in network.directions:
        formats = layer.formats
        p = SQ(formats.w_h.i, min(formats.w_h.f, formats.product_fraction - formats.c.f))
        layers.append(replace(layer, formats=replace(formats, p=p),
                              peepholes=random_codes(rng, p, (3 * layer.hidden,))))
    return replace(network, layers=tuple(layers))


def random_sequences(rng: np.random.Generator, network: QuantizedNetwork, *steps: int
                     ) -> list[np.ndarray]:
    """Sequences of so many steps each."""
    return [random_codes(rng, network.x, (count, network.inputs)) for count in steps]


def folded(network: QuantizedNetwork, units: int, columns: int, *, pipeline: Pipeline = SHORT,
           streams: int = 1) -> list[Folding]:
    """Each layer on so many units and columns, or all that it has."""
    return [choose_drain(layer.inputs, layer.hidden, units=min(units, layer.hidden),
                         columns=min(columns, layer.inputs + layer.directions[0].outputs),
                         pipeline=pipeline, streams=streams * len(layer.directions),
                         peepholes=layer.directions[0].peepholes is not None,
                         projected=layer.directions[0].projected)
            for layer in network.layers]


def expected_words(network: QuantizedNetwork, sequences: Sequence[np.ndarray]
                   ) -> list[tuple[list[int], bool]]:
    """Output vectors with their TLAST, as :class:`tests.streams.Exchange` has them."""
    words = []
    for x in sequences:
        y = network.run(x[None]).y[0]
        steps = y.tolist() if network.every_step else [y.tolist()]
        words += [(step, n == len(steps) - 1) for n, step in enumerate(steps)]
    return words
