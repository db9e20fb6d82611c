"""The runner of the proofs, and the proofs that take seconds."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from amaranth.asserts import AnyConst
from amaranth.back import rtlil
from amaranth.hdl import Assert, Module, Value

from fpga.tools import Processes
from hdl import dense, lane_gates, lane_states
from hdl.network import Network
from hdl.pipeline import PIPELINES
from proofs.__main__ import main, page
from proofs.catalogue import proofs
from proofs.proof import Engine, Fault, FaultError, Proof, planted, written
from proofs.rounding import WIDE, WIDE_DROPS
from proofs.run import prove, see_fault
from proofs.sums import demo
from tests.networks import folded

PROOFS = proofs()
PAGE = Path(__file__).parents[1] / "docs" / "verification.md"


def _wrong() -> Module:
    m = Module()
    m.d.comb += Assert(AnyConst(4) != 9)
    return m


# It is not a fault of this bench, whose design is none of hdl's.
WRONG = Proof(name="wrong", claim="nothing is 9", bench=_wrong, depth=1, faults=[
    Fault(module="hdl.rounding", old="kept[0] & odd_stays", new="kept[0]")])

# The claims that these faults break.
BROKEN = {"outlet.passage": "comes_out", "sums.short": "sum0", "engine.hidden0": "operand0"}


@pytest.mark.parametrize("name", [name for name, proof in PROOFS.items() if proof.quick])
def test_proof(name: str, tmp_path: Path) -> None:
    # With one of its faults.
    proof, processes = PROOFS[name], Processes()
    assert prove(proof, tmp_path / "proof", processes).text == "proven"
    caught = see_fault(proof, proof.faults[0], tmp_path / "fault", processes)
    assert caught.text == "caught"
    assert caught.broken == BROKEN.get(name, "")
    assert caught.trace
    assert caught.trace.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("name", PROOFS)
def test_proof_with_all_its_faults(name: str, tmp_path: Path) -> None:
    assert main([name, "--faults", "--jobs", "1", "-o", str(tmp_path)]) == 0


def test_what_is_not_true_is_not_proven(tmp_path: Path) -> None:
    outcome = prove(WRONG, tmp_path / "proof", Processes())
    assert not outcome.good
    assert outcome.trace
    assert outcome.text == f"NOT TRUE, see {outcome.trace}"


def test_an_aid_alone_does_not_catch_a_fault(tmp_path: Path) -> None:
    # A queue that runs over breaks what the induction needs, and lets nobody wait.
    proof, processes = PROOFS["outlet.progress"], Processes()
    fault = Fault(module="hdl.outlet", old="sequencer.stall.eq(room == 0)",
                  new="sequencer.stall.eq(0)", depth=15)
    assert see_fault(proof, fault, tmp_path / "fault", processes).text == "NOT CAUGHT"
    with planted(fault):
        from proofs.catalogue import proofs as changed
        outcome = prove(changed()[proof.name], tmp_path / "proof", processes)
    assert outcome.text.startswith("NOT ")


def test_every_fault_can_be_planted(tmp_path: Path) -> None:
    for name, proof in PROOFS.items():
        for number, fault in enumerate(proof.faults):
            source = Path(*fault.module.split(".")).with_suffix(".py").read_text()
            changed = fault.applied(source)
            assert changed != source
            (tmp_path / f"{name}.{number}.py").write_text(changed)
    # What it says is known where it stands.
    found = subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821",
                            "--output-format", "concise", str(tmp_path)],
                           capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "All checks passed!"


@pytest.mark.slow
def test_the_demo_rounds_as_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each value that its network rounds, with whatever registers, has bits of which that is proven.
    found = set()

    def noted(rounding: Callable[..., Value], value: Value, drop: int, *more: Any) -> Value:
        found.add((rounding.__name__, len(value), drop))
        return rounding(value, drop, *more)

    for module, name in ((lane_gates, "floor_to_even"), (lane_states, "floor_to_even"),
                         (lane_states, "rounded"), (dense, "floor_to_even")):
        monkeypatch.setattr(module, name, partial(noted, getattr(module, name)))
    network = demo()
    for pipeline in PIPELINES.values():
        rtlil.convert(Network(network, foldings=folded(network, 4, 1, pipeline=pipeline),
                              pipeline=pipeline))
    assert {name for name, _, _ in found} == {"rounded", "floor_to_even"}
    # Half an ulp makes a value a bit wider.
    assert found <= {(name, width + wider, drop) for width in WIDE for drop in WIDE_DROPS
                     for name, wider in (("rounded", 0), ("floor_to_even", 1))}


def test_planted_is_in_what_is_imported_within() -> None:
    import hdl.rounding as before

    fault = Fault(module="hdl.rounding", old="return 1 << drop - 1 if drop > 0 else 0",
                  new="return 77")
    with planted(fault):
        import hdl.rounding as within
        assert within.half(3) == 77
        assert within is not before
    assert sys.modules["hdl.rounding"] is before
    assert before.half(3) == 4


@pytest.mark.parametrize(("old", "count"), [("no such text", 0), ("import ", 4)])
def test_planted_exactly_once(old: str, count: int) -> None:
    fault = Fault(module="hdl.rounding", old=old, new="")
    with pytest.raises(FaultError, match=rf"^the text of a fault must be exactly once in "
                       rf"hdl\.rounding, not {count} times: '{old}'$"), planted(fault):
        import hdl.rounding  # noqa: F401


def test_planted_in_what_is_used() -> None:
    fault = Fault(module="hdl.rounding", old="kept[0] & odd_stays", new="kept[0]")
    with pytest.raises(FaultError, match=r"^the module of a fault must be used, but hdl\.rounding "
                       r"is not$"), planted(fault):
        pass


def test_planted_in_the_design_alone() -> None:
    with pytest.raises(FaultError, match=r"^a fault must be in a module of golden or hdl, not in "
                       r"sim\.bench$"):
        Fault(module="sim.bench", old="a", new="b")
    fault = Fault(module="hdl.nowhere", old="a", new="b")
    with pytest.raises(FaultError, match=r"^the module of a fault must be there, but hdl\.nowhere "
                       r"is not$"), planted(fault):
        pass


def test_what_cannot_be_planted_is_not_good(tmp_path: Path) -> None:
    proof = PROOFS["rounding.saturated"]
    fault = Fault(module="hdl.rounding", old="no such text", new="")
    outcome = see_fault(proof, fault, tmp_path / "fault", Processes())
    assert not outcome.good
    assert outcome.text.startswith("cannot be planted: the text of a fault must be exactly once")


def test_a_proof_must_have_a_fault() -> None:
    with pytest.raises(ValueError, match=r"^proof x must have a planted fault: without, nobody "
                       r"knows whether it can fail$"):
        Proof(name="x", claim="x", bench=_wrong, faults=[], engine=Engine.PDR)


def test_written_is_the_same_each_time() -> None:
    bench = PROOFS["rounding.saturated"].bench
    assert written(bench) == written(bench)


@pytest.mark.parametrize(("arguments", "message"), [
    (["nowhere"], "no proof is called nowhere; --list says what there is"),
    (["--jobs", "0"], "argument --jobs: must be a positive integer, not 0"),
])
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
                         ) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.strip() == page(list(PROOFS.values()))
    assert page(list(PROOFS.values())) in PAGE.read_text()
