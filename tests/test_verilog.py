import json
import re

import numpy as np
import pytest

from hdl.cycles import Folding
from hdl.network import Network
from hdl.verilog import generate
from tests.networks import FORMATS, random_network


def network(seed: int = 0) -> Network:
    quantized = random_network(np.random.default_rng(seed), FORMATS["8 bits"], 3, (4, 2), 2,
                               every_step=True)
    return Network(quantized, foldings=[
        Folding.choose(3, 4, units=2, columns=2), Folding.choose(4, 2, units=1, columns=1)])


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


def test_ports() -> None:
    verilog, manifest = generate(network(), "my_core")
    header = re.search(r"^module my_core\((.*?)\);", verilog, re.MULTILINE | re.DOTALL)
    assert header
    assert set(header[1].split(", ")) == {
        "clk", "rst", "saturated", "malformed",
        *(f"{prefix}_{signal}" for prefix in ("s_axis", "m_axis")
          for signal in ("tdata", "tvalid", "tready", "tlast"))}
    assert manifest["verilog"] == "my_core.v"


def test_manifest() -> None:
    dut = network()
    verilog, manifest = generate(dut)
    assert json.loads(json.dumps(manifest)) == manifest
    assert manifest["input"] == {"prefix": "s_axis", "elements": 3, "lanes": 2, "bytes": 1,
                                 "format": {"kind": "SQ", "i": 2, "f": 6}}
    assert manifest["output"]["every_step"] is True
    assert manifest["cycles"] == {"step": dut.step, "latency": dut.latency}
    assert [layer["kind"] for layer in manifest["layers"]] == ["lstm", "lstm", "dense"]
    assert manifest["saturation"][4:] == ["lstm1.z", "lstm1.u", "lstm1.c", "lstm1.h", "dense.y"]
    assert len(manifest["probes"]) == 4
    for probe in manifest["probes"]:
        for path in (probe["valid"], probe["data"]):
            module, signal = path.rsplit(".", 1)
            body = verilog.split(f"module \\{module} ", 1)[1].split("endmodule", 1)[0]
            assert re.search(rf"^  wire (\[\d+:0\] )?{signal};", body, re.MULTILINE)


@pytest.mark.parametrize("name", ["", "2x", "a b", "a;b"])
def test_wrong_name(name: str) -> None:
    text = f"module name must be a Verilog identifier, not {name!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        generate(network(), name)
