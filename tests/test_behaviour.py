"""What the literature asks of an LSTM, asked of the Verilog through its ports.

A network whose gates obey its inputs: input 0 drives the candidate, 1 to 3 the input, forget and
output gate, through weights so large that -1 gives a gate of exactly 0 and +1 exactly 1. The
recurrent weights are random. The head shows h. No signal is forced: the expected states and
outputs say what an LSTM must do, whatever golden thinks of it, and the bench compares each of
them with the simulated Verilog.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from golden.fixed import SQ, UQ
from golden.formats import DenseFormats, LSTMFormats
from golden.quantized import QuantizedDense, QuantizedLSTM
from golden.quantized_network import QuantizedNetwork
from hdl.drain_timing import DrainTiming
from hdl.foldings import choose_drain
from hdl.network import Network
from hdl.verilog import generate
from sim.manifest import MANIFEST
from sim.vectors import VECTORS, Vectors
from sim.verify import verify

HIDDEN = 2
FORMATS = LSTMFormats(x=SQ(1, 15), h=SQ(1, 15), c=SQ(4, 12), w_x=SQ(5, 11), w_h=SQ(5, 11),
                      z=SQ(5, 15), gate=UQ(1, 15), tanh=SQ(2, 14))
ONE_C, ONE_H = 1 << FORMATS.c.f, FORMATS.h.max
# Input codes.
LOW, HIGH = FORMATS.x.min, FORMATS.x.max
CANDIDATE, INPUT, FORGET, OUTPUT = range(4)


def obedient(inputs: int) -> QuantizedNetwork:
    rng = np.random.default_rng(0)
    w_x = np.zeros((4, HIDDEN, inputs), dtype=np.int64)
    for gate, control in enumerate((INPUT, FORGET, CANDIDATE, OUTPUT)):
        w_x[gate, :, control] = FORMATS.w_x.max
    # At most 2 in all, so that a gate driven to 16 stays beyond 11, where it is exactly 1.
    limit = (2 << FORMATS.w_h.f) // HIDDEN
    layer = QuantizedLSTM(formats=FORMATS, w_x=w_x.reshape(4 * HIDDEN, inputs),
                          w_h=rng.integers(-limit, limit, (4 * HIDDEN, HIDDEN)),
                          bias=np.zeros(4 * HIDDEN, dtype=np.int64))
    dense = DenseFormats(x=FORMATS.h, w=SQ(2, 14), y=FORMATS.h)
    head = QuantizedDense(formats=dense, w=np.eye(HIDDEN, dtype=np.int64) << 14,
                          bias=np.zeros(HIDDEN, dtype=np.int64))
    return QuantizedNetwork(layers=(layer,), head=(head,), every_step=True)


@dataclass
class Design:
    """The Verilog on disk, and the one simulator of it."""

    network: QuantizedNetwork
    folder: Path

    def golden(self, *sequences: np.ndarray) -> Vectors:
        longest = max(map(len, sequences))
        x = np.stack([np.pad(x, ((0, longest - len(x)), (0, self.network.inputs - 4)))
                      for x in sequences])
        return Vectors.compute(self.network, x, np.array([len(x) for x in sequences]), singles=0)

    def check(self, expected: Vectors) -> None:
        """Play the sequences through the ports and compare every output and state."""
        expected.save(self.folder / VECTORS)
        result = verify(self.folder, tests=["full_speed"], seed=0,
                        simulators=self.folder / "simulators")
        assert result.failure is None
        # Everything, and the shortest sequence once more on its own.
        assert result.steps == expected.lengths.sum() + expected.lengths.min()
        assert result.states == 2 * HIDDEN * result.steps


@pytest.fixture(scope="module", params=[
    "parallel", pytest.param("serial", marks=pytest.mark.slow)])
def design(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Design:
    # Everything at once, or one unit and one column: then, with some inputs that have no weight
    # for the pass to be long enough, one table and one multiplier do all of the drain.
    inputs, units, columns = (4, HIDDEN, 4 + HIDDEN) if request.param == "parallel" else (13, 1, 1)
    network = obedient(inputs)
    folding = choose_drain(inputs, HIDDEN, units=units, columns=columns)
    timing = DrainTiming(folding.interval)
    assert timing.shared_table == timing.shared_multiplier == (request.param == "serial")
    folder = tmp_path_factory.mktemp(request.param)
    verilog, manifest = generate(Network(network, foldings=[folding]))
    (folder / manifest["verilog"]).write_text(verilog)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return Design(network, folder)


def steps(count: int, seed: int, **gates: int) -> np.ndarray:
    """Random input codes, with some of the gates held."""
    x = np.random.default_rng(seed).integers(LOW, HIGH, (count, 4), endpoint=True)
    for name, code in gates.items():
        x[:, {"g": CANDIDATE, "i": INPUT, "f": FORGET, "o": OUTPUT}[name]] = code
    return x


def test_gates_and_candidate_stay_in_range(design: Design) -> None:
    """Each gate in [0, 1] and the candidate in [-1, 1], both ends reached, seen through c and h."""
    sweep = np.linspace(LOW, HIGH, 1500).astype(np.int64)

    def swept(control: int, **gates: int) -> np.ndarray:
        x = steps(len(sweep), 0, **gates)
        x[:, control] = sweep
        return x

    # With f = 0, c is i g; with g = 1 that is i, with i = 1 it is g.
    by_input = swept(INPUT, g=HIGH, f=LOW, o=LOW)
    by_candidate = swept(CANDIDATE, i=HIGH, f=LOW, o=LOW)
    # Every second step sets c to 1, and the following multiplies it by f.
    by_forget = steps(2 * len(sweep), 0, g=HIGH, i=HIGH, f=LOW, o=LOW)
    by_forget[1::2, INPUT] = LOW
    by_forget[1::2, FORGET] = sweep
    # Seven steps of i = g = f = 1 charge c to 7, whose tanh is 1; then h is o.
    by_output = np.concatenate([steps(7, 0, g=HIGH, i=HIGH, f=HIGH, o=LOW),
                                swept(OUTPUT, i=LOW, f=HIGH)])
    vectors = design.golden(by_input, by_candidate, by_forget, by_output)
    c, y = vectors.states["lstm0.c"], vectors.y
    for sequence, (low, high, values) in enumerate([
            (0, ONE_C, c), (-ONE_C, ONE_C, c), (0, ONE_C, c), (0, ONE_H, y)]):
        seen = values[vectors.steps(sequence)]
        assert (seen.min(), seen.max()) == (low, high)
    assert (c[vectors.steps(3)][6:] == 7 * ONE_C).all()
    design.check(vectors)


def test_closed_input_gate_lets_nothing_in(design: Design) -> None:
    """i = 0 from the start: whatever the candidate and the other gates do, c and h stay 0."""
    vectors = design.golden(steps(500, 1, i=LOW))
    zero = np.zeros((500, HIDDEN), dtype=np.int64)
    design.check(replace(vectors, y=zero, states={"lstm0.c": zero, "lstm0.h": zero}))


def test_closed_forget_gate_forgets_everything(design: Design) -> None:
    """After f = 0 (and an h of 0) the past is gone: two histories, one future."""
    future = np.concatenate([steps(1, 2, f=LOW), steps(200, 3)])
    histories = [np.concatenate([steps(50, seed), steps(1, seed, o=LOW), future])
                 for seed in (4, 5)]
    vectors = design.golden(*histories)
    first, second = vectors.steps(0), vectors.steps(1)
    c, h, y = vectors.states["lstm0.c"].copy(), vectors.states["lstm0.h"].copy(), vectors.y.copy()
    assert (c[first][50] != c[second][50]).any()
    for values in (c, h, y):
        values[second][51:] = values[first][51:]
    design.check(replace(vectors, y=y, states={"lstm0.c": c, "lstm0.h": h}))


def test_both_closed_clears_the_state(design: Design) -> None:
    x = np.concatenate([steps(20, 6), steps(1, 7, f=LOW, i=LOW)])
    vectors = design.golden(x)
    c = vectors.states["lstm0.c"].copy()
    assert c[-2].all()
    c[-1] = 0
    design.check(replace(vectors, states={**vectors.states, "lstm0.c": c}))


@pytest.mark.parametrize("long", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_state_is_held(design: Design, long: int) -> None:
    """f = 1 and i = 0 hold a state of more than a half exactly, whichever its sign."""
    sequences = [np.concatenate([steps(1, 8, g=g, i=HIGH), steps(count, 9, i=LOW, f=HIGH)])
                 for g, count in ((HIGH * 3 // 4, long), (LOW, 5_000))]
    vectors = design.golden(*sequences)
    c = vectors.states["lstm0.c"].copy()
    for n, sign in enumerate((1, -1)):
        of_sequence = c[vectors.steps(n)]
        assert (sign * of_sequence[0] > ONE_C // 2).all()
        of_sequence[:] = of_sequence[0]
    design.check(replace(vectors, states={**vectors.states, "lstm0.c": c}))


def test_closed_output_gate_shows_nothing(design: Design) -> None:
    """With o = 0, h and the output are 0 while c is kept, and shown again when o opens."""
    charge = steps(3, 10, g=HIGH, i=HIGH, f=HIGH)
    x = np.concatenate([charge, steps(300, 11, i=LOW, f=HIGH, o=LOW),
                        steps(1, 12, i=LOW, f=HIGH, o=HIGH)])
    vectors = design.golden(x)
    c, h = vectors.states["lstm0.c"].copy(), vectors.states["lstm0.h"].copy()
    assert (c[2] > ONE_C).all()
    c[3:], h[3:-1] = c[2], 0
    assert (h[-1] > ONE_H // 2).all()
    design.check(replace(vectors, y=h, states={"lstm0.c": c, "lstm0.h": h}))


def test_what_step_1_wrote_is_read_at_step_10_000(design: Design) -> None:
    """Different values, to the bit, across 9,998 steps of noise on every open input."""
    values = [HIGH // 16, LOW // 16, 1, 700, -2100]
    noise = steps(9_998, 13, i=LOW, f=HIGH)
    read = steps(1, 14, i=LOW, f=HIGH, o=HIGH)
    sequences = [np.concatenate([steps(1, 15, g=value, i=HIGH), noise, read]) for value in values]
    # What each value shows when it is read at once.
    at_once = design.golden(*(np.concatenate([x[:1], read]) for x in sequences))
    vectors = design.golden(*sequences)
    y = vectors.y.copy()
    for n in range(len(values)):
        y[vectors.outputs(n)][-1] = at_once.y[at_once.outputs(n)][-1]
    assert len({tuple(y[vectors.outputs(n)][-1]) for n in range(len(values))}) == len(values)
    design.check(replace(vectors, y=y))
