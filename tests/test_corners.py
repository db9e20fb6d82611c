"""Sequences for the corners: points, which of them can happen, and a network that reaches all."""

import numpy as np
import pytest

from golden.activation import SIGMOID, TANH
from golden.corners import with_corners
from golden.coverage import labels, possible, reached
from golden.quantized_network import QuantizedNetwork
from tests.networks import FORMATS, peepholed, random_codes, random_network
from tests.test_differing_directions import PAIRS, pair


def network(name: str, *, seed: int = 0, size: float = 1.0,
            projected: tuple[int | None, ...] = (None, None)) -> QuantizedNetwork:
    return random_network(np.random.default_rng(seed), FORMATS[name], 3, (5, 4), 2,
                          every_step=True, size=size, projected=projected)


def some(of: QuantizedNetwork, count: int = 6, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return random_codes(rng, of.x, (count, 24, of.inputs)), rng.integers(1, 25, count)


def counts(of: QuantizedNetwork, x: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
    return reached(of, of.run(x, lengths, trace=True), lengths)


@pytest.mark.parametrize("name", FORMATS)
def test_saturations_are_those_of_the_run(name: str) -> None:
    of = network(name, projected=(3, None))
    x, lengths = some(of, 40)
    found = counts(of, x, lengths)
    total = of.run(x, lengths).saturated
    assert {tensor: int(found[f"saturation.{tensor}"].sum()) for tensor in total} == total
    assert sum(total.values()) > 0


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("peepholes", [False, True])
def test_nothing_impossible_happens(name: str, peepholes: bool) -> None:
    of = network(name, projected=(3, None))
    if peepholes:
        of = peepholed(np.random.default_rng(2), of)
    x, lengths = with_corners(of, *some(of, 40))
    found, able = counts(of, x, lengths), possible(of)
    assert found.keys() == able.keys()
    for what, count in found.items():
        assert count.shape == (len(lengths), len(labels(what, len(able[what]))))
        assert not count[:, ~able[what]].any(), what


@pytest.mark.parametrize("name", PAIRS)
def test_two_directions(name: str) -> None:
    """Each has points of its own, and what they are merged to."""
    of, _ = pair(name)
    rng = np.random.default_rng(3)
    x, lengths = with_corners(of, random_codes(rng, of.x, (8, 9, of.inputs)),
                              rng.integers(1, 10, 8))
    found, able = counts(of, x, lengths), possible(of)
    assert found.keys() == able.keys()
    assert not any(count[:, ~able[what]].any() for what, count in found.items())
    for tensor, total in of.run(x, lengths).saturated.items():
        layer, what = tensor.rsplit(".", 1)
        parts = [count for name, count in found.items()
                 if name in (f"saturation.{tensor}", f"saturation.{layer}.reverse.{what}")]
        assert sum(int(count.sum()) for count in parts) == total, tensor


def test_bounds_exclude_what_cannot_be() -> None:
    of = network("16 bits", size=0.001)
    able = possible(of)
    # Weights too small for any gate to leave its middle.
    assert not able["saturation.lstm1.z"].any()
    assert not able["ends.lstm1.f"].any()
    assert 0 < able["segments.lstm1.gates"].sum() < able["segments.lstm1.gates"].size
    # h is o tanh(u) below 1 and from -1 on, which its format has.
    assert not possible(network("16 bits"))["saturation.lstm0.h"][0]


def test_points_are_counted_one_by_one() -> None:
    """Against a count of each value of a trace for itself."""
    of = network("8 bits")
    x, lengths = some(of, 3)
    trace = of.run(x, lengths, trace=True)
    found = reached(of, trace, lengths)
    layer, codes = of.directions[0], (trace.layers or ())[0]
    table = layer.table
    expected: dict[str, int] = {}
    for sequence, length in enumerate(lengths):
        for step in range(length):
            for gate, place in (("i", 0), ("f", 1), ("o", 3)):
                for z in codes.z[sequence, step, 5 * place:5 * place + 5].tolist():
                    value = table.evaluate(np.array(z), SIGMOID)
                    expected[f"{gate} {value}"] = expected.get(f"{gate} {value}", 0) + 1
                    side = "negative" if z < 0 else "positive"
                    block = (~z if z < 0 else z) >> table.block_bits
                    width = table.block_bits - table.block_splits[block]
                    inside = (~z if z < 0 else z) & (1 << table.block_bits) - 1
                    name = f"segment {table.bases[block] + (inside >> width)}, {side}"
                    expected[name] = expected.get(name, 0) + 1
            for z in codes.z[sequence, step, 10:15].tolist():
                value = table.evaluate(np.array(z), TANH)
                expected[f"g {value}"] = expected.get(f"g {value}", 0) + 1
    gates = found["segments.lstm0.gates"].sum(axis=0)
    assert dict(zip(labels("segments.lstm0.gates", len(gates)), gates, strict=True)) == {
        name: expected.get(name, 0) for name in labels("segments.lstm0.gates", len(gates))}
    one, tanh_one = 1 << layer.formats.gate.f, 1 << layer.formats.tanh.f
    for gate in "ifo":
        assert found[f"ends.lstm0.{gate}"].sum(axis=0).tolist() == [
            expected.get(f"{gate} 0", 0), expected.get(f"{gate} {one}", 0)]
    assert found["ends.lstm0.g"].sum(axis=0).tolist() == [
        expected.get(f"g {-tanh_one}", 0), expected.get(f"g {tanh_one}", 0)]


def test_corners_reach_more_in_few_steps() -> None:
    of = network("tanh as fine as the gates")
    x, lengths = some(of, 2)
    more, longer = with_corners(of, x, lengths, steps=60)
    assert np.array_equal(more[:2], x)
    assert np.array_equal(longer[:2], lengths)
    assert 0 < longer[2:].sum() <= 60
    assert longer.max() <= lengths.max()
    met = [sum(int((count.sum(axis=0) > 0).sum()) for count in counts(of, *each).values())
           for each in ((x, lengths), (more, longer))]
    assert met[1] > met[0]
    again, _ = with_corners(of, x, lengths, steps=60)
    assert np.array_equal(again, more)
