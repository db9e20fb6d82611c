"""The bench on designs whose states are kept, set and given out."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.quantized_network import QuantizedNetwork
from golden.result import StateCodes
from hdl.network import LONGEST, Network
from hdl.pipeline import FAST, SHORT, Pipeline
from hdl.verilog import generate
from sim.manifest import MANIFEST, Manifest, ManifestError
from sim.model import Model
from sim.states import in_pieces
from sim.vectors import VECTORS, Vectors, VectorsError
from sim.verify import FAULT_TESTS, READ_TESTS, STATE_TESTS, STREAM_TESTS, TESTS, verify
from tests.networks import FORMATS, folded, random_codes, random_network
from tests.test_bidirectional import stack


def write(folder: Path, hidden: tuple[int, ...], *, streams: int = 1, every_step: bool = True,
          pipeline: Pipeline = SHORT, family: str | None = None, units: int = 2, **of_network: Any
          ) -> tuple[QuantizedNetwork, Vectors]:
    rng = np.random.default_rng(len(hidden) + streams)
    network = replace(random_network(rng, FORMATS["8 bits"], 2, hidden, 1, every_step=every_step,
                                     size=0.5), **of_network)
    return network, write_of(folder, network, streams=streams, pipeline=pipeline, family=family,
                             units=units, rng=rng)


def write_of(folder: Path, network: QuantizedNetwork, *, streams: int = 1,
             pipeline: Pipeline = SHORT, family: str | None = None, units: int = 2,
             longest: int = LONGEST, rng: np.random.Generator | None = None) -> Vectors:
    rng = rng or np.random.default_rng(0)
    vectors = Vectors.compute(network, random_codes(rng, network.x, (8, 12, network.inputs)),
                              rng.integers(1, 13, 8))
    dut = Network(network, foldings=folded(network, units, 2, pipeline=pipeline, streams=streams),
                  pipeline=pipeline, streams=streams, longest=longest)
    verilog, manifest = generate(dut, family=family)
    (folder / manifest["verilog"]).write_text(verilog)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    vectors.save(folder / VECTORS)
    return vectors


DESIGNS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "stateful": ((3,), {"stateful": True, "every_step": False}),
    "read": ((5,), {"states": ("lstm0.c", "lstm0.h"), "every_step": False, "units": 5}),
    "both": ((3,), {"stateful": True, "states": ("lstm0.c",), "streams": 2}),
    "both, in streams": ((4, 3), {"stateful": True, "states": ("lstm1.c", "lstm0.h"),
                                  "streams": 3, "pipeline": FAST, "family": "ecp5"}),
}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name == "both" else pytest.mark.slow) for name in DESIGNS])
def test_bench(tmp_path: Path, name: str) -> None:
    hidden, settings = DESIGNS[name]
    write(tmp_path, hidden, **settings)
    result = verify(tmp_path, seed=1, effort=8_000)
    assert result.failure is None
    assert [test.test for test in result.tests] == [
        *TESTS, *(STREAM_TESTS if "streams" in settings else ()),
        *(STATE_TESTS if "stateful" in settings else ()),
        *(READ_TESTS if "states" in settings else ()),
        *(FAULT_TESTS if "stateful" in settings else ())]
    assert all(test.words and test.states for test in result.tests)


# What is wrong in the Verilog: what is replaced by what; the test that finds it, and how.
FAULTS = {
    "forgets": (r"\.tuser\(s_axis_tuser\)", ".tuser(1'h0)", "kept_states",
                r"sequence \d+, step 0, tensor lstm0\.c, unit \d: expected"),
    "sets another": (r"\.tdata\(s_state_axis_tdata\)", ".tdata(~s_state_axis_tdata)", "set_states",
                     r"sequence \d+, step 0, tensor lstm0\.c, unit \d: expected"),
    "gives another": (r"assign m_state_axis_tdata = ", "assign m_state_axis_tdata = 1 ^ ",
                      "full_speed", r"tensor final states, unit 0: expected"),
    "no end": (r"assign m_state_axis_tlast = ", "assign m_state_axis_tlast = 1'b0 & ",
               "packets_held", r"tensor final states, word 5: expected TLAST 1, got 0"),
    # Its queue goes on though nobody takes the word.
    "does not wait": (r"\.r_en\(m_state_axis_tready\)", ".r_en(1'h1)", "packets_held",
                      r"tensor final states, "),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_faults(tmp_path: Path, name: str) -> None:
    write(tmp_path, (3,), stateful=True, states=("lstm0.h", "lstm0.c"))
    right, wrong, test, message = FAULTS[name]
    file = tmp_path / "gatefold.v"
    text, count = re.subn(right, wrong, file.read_text())
    assert count == 1
    file.write_text(text)
    result = verify(tmp_path, tests=[test], seed=1, effort=8_000)
    assert result.failure is not None
    assert re.search(message, result.failure)


@pytest.mark.parametrize("name", ["two directions", *(
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("forward", "all ways", "outputs from the end"))])
def test_pieces(tmp_path: Path, name: str) -> None:
    """What goes into the bench, and what must come out, is what golden makes of it in pieces."""
    if name == "forward":
        streams = 2
        network, vectors = write(tmp_path, (3, 2), stateful=True, states=("lstm1.h", "lstm0.c"),
                                 every_step=False, streams=streams)
    else:
        streams, network = 1, replace(stack(name), stateful=True, states=("lstm0.h", "lstm0.c"))
        vectors = write_of(tmp_path, network, longest=12)
    rng = np.random.default_rng(0)
    pieces, of = vectors.pieces, vectors.pieces_of
    assert pieces is not None
    assert [sum(pieces.lengths[some]) for some in of] == vectors.lengths.tolist()
    assert np.array_equal(pieces.x, vectors.x)
    model = Model(Manifest.load(tmp_path), pieces)
    seen = {"kept": 0, "given": 0, "anew": 0}
    for sets in (False, True):
        course = in_pieces(vectors, range(len(of)), streams, sets=sets, rng=rng)
        for stream, queue in enumerate(course.queues):
            state = None
            expected = model.expected(queue)
            assert expected.final is not None
            for n, piece in enumerate(queue):
                rows = pieces.steps(piece)
                if course.given[stream][n]:
                    assert sets
                    state = tuple(StateCodes(**{tensor: np.concatenate([
                        pieces.states[part][[rows.start - 1]]
                        for part in network.state_parts(f"lstm{k}.{tensor}")], axis=1)
                        for tensor in "hc"}) for k in range(len(network.layers)))
                seen["given" if course.given[stream][n] else "kept" if state else "anew"] += 1
                result = network.run(pieces.x[rows][None], state=state)
                own = expected.output.sequence == piece if network.every_step else [n]
                assert np.array_equal(result.y.reshape(-1, network.outputs),
                                      expected.output.values[own])
                assert np.array_equal(network.state_vector(result.final, network.states)[0],
                                      expected.final.values[n])
                state = result.final if course.keeps[stream][n] else None
    assert all(count > 3 for count in seen.values())


def test_wrong_designs(tmp_path: Path) -> None:
    _, vectors = write(tmp_path, (3,), states=("lstm0.c",))
    for test, wanted in (("set_states", "a stateful design"),
                         ("idle_streams", "a design of several streams, not of 1")):
        with pytest.raises(ValueError, match=f"^the test {test} needs {wanted}$"):
            verify(tmp_path, tests=[test])
    file = tmp_path / MANIFEST
    data = json.loads(file.read_text())
    data["state_output"]["tensors"][0]["name"] = "lstm1.c"
    file.write_text(json.dumps(data))
    with pytest.raises(VectorsError, match=r"^the vectors have no lstm1.c, a state of the design$"):
        Model(Manifest.load(tmp_path), vectors)
    data["state_output"]["elements"] = 4
    file.write_text(json.dumps(data))
    with pytest.raises(ManifestError, match=r"elements of state_output must be those of its tensors"
                                            r" together, not 4$"):
        Manifest.load(tmp_path)


def test_wrong_pieces(tmp_path: Path) -> None:
    _, vectors = write(tmp_path, (3,), stateful=True)
    assert vectors.cuts is not None
    with pytest.raises(VectorsError, match=r"^cuts must be there where pieces are, and only there"):
        replace(vectors, cuts=None)
    for cuts in (vectors.cuts[::-1], vectors.cuts[:-1], vectors.cuts + 1, vectors.cuts * 0):
        with pytest.raises(VectorsError, match=r"^the pieces of each sequence must together be as "
                                               r"long as it is$"):
            replace(vectors, cuts=cuts)
    replace(vectors, pieces=None, cuts=None).save(tmp_path / VECTORS)
    with pytest.raises(VectorsError, match=r"^the vectors have no pieces of sequences, which a "
                                           r"stateful design needs$"):
        verify(tmp_path, tests=["kept_states"])
