# amaranth: UnusedElaboratable=no
"""The self-test catches what it must, and nothing else."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import io, wiring
from amaranth.sim import Simulator, SimulatorContext

from fpga.boards import find
from fpga.selftest import START_UP_US, SelfTest, SelfTestTop
from fpga.stored import Beat, Stored
from tests.test_fpga_standin import StandIn, packed

TIMEOUT = 40
BLINK = 150


class Saboteur(wiring.Component):
    """A core whose output goes wrong, once, in one word.

    Parameters
    ----------
    fault : str
        ``"bit"`` turns the word's top bit, ``"last"`` its TLAST, ``"missing"`` swallows it,
        ``"surplus"`` gives it twice.
    at : int
        Which word since reset.
    """

    def __init__(self, core: StandIn, *, fault: str, at: int) -> None:
        self.core = core
        self.fault = fault
        self.at = at
        super().__init__(core.signature)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.core = core = self.core
        count = Signal(16)
        now = count == self.at
        for name in ("s_axis_tdata", "s_axis_tvalid", "s_axis_tlast", "m_axis_tready"):
            m.d.comb += getattr(core, name).eq(getattr(self, name))
        for name in ("s_axis_tready", "m_axis_tdata", "m_axis_tvalid", "m_axis_tlast",
                     "saturated", "malformed"):
            m.d.comb += getattr(self, name).eq(getattr(core, name))
        with m.If(core.m_axis_tvalid & self.m_axis_tready):
            m.d.sync += count.eq(count + 1)
        with m.If(now):
            match self.fault:
                case "bit":
                    m.d.comb += self.m_axis_tdata.eq(core.m_axis_tdata ^ 1 << 31)
                case "last":
                    m.d.comb += self.m_axis_tlast.eq(~core.m_axis_tlast)
                case "missing":
                    m.d.comb += self.m_axis_tvalid.eq(0)
                    # Taken from the core although the self-test does not see it.
                    m.d.comb += core.m_axis_tready.eq(1)
                    with m.If(core.m_axis_tvalid):
                        m.d.sync += count.eq(count + 1)
                case "surplus":
                    m.d.comb += core.m_axis_tready.eq(0)
        return m


def stored(seed: int, lengths: Sequence[int]) -> tuple[StandIn, list[Beat], list[Beat]]:
    rng = np.random.default_rng(seed)
    core = StandIn(rng.integers(-2**15, 2**15, (max(lengths), 2)))
    sequences = [rng.integers(-2**15, 2**15, (n, 2)) for n in lengths]
    return core, packed(sequences), [Beat(core.compute(x), True) for x in sequences]


def lights(
    core: wiring.Component, stimulus: Sequence[Beat], expected: Sequence[Beat], cycles: int,
    timeout: int = TIMEOUT,
) -> tuple[SelfTest, list[dict[str, int]]]:
    """All outputs of the self-test, in every cycle."""
    test = SelfTest(core, stored=Stored(stimulus=stimulus, expected=expected, timeout=timeout),
                    blink=BLINK)
    names = list(test.signature.members)
    seen = []

    async def watch(ctx: SimulatorContext) -> None:
        for _ in range(cycles):
            seen.append({name: ctx.get(getattr(test, name)) for name in names})
            await ctx.tick()

    simulator = Simulator(test)
    simulator.add_clock(1e-6)
    simulator.add_testbench(watch)
    simulator.run()
    return test, seen


@pytest.mark.parametrize("seed", range(3))
def test_passes_and_starts_again(seed: int) -> None:
    core, stimulus, expected = stored(seed, (5, 1, 1, 12, 3))
    _, seen = lights(core, stimulus, expected, cycles=20 * (len(stimulus) + TIMEOUT))
    assert not any(now["failed"] or now["malformed"] for now in seen)
    assert all(now["running"] for now in seen)
    # Not before the end of a round.
    first = [now["passed"] for now in seen].index(1)
    assert len(stimulus) + TIMEOUT < first < len(stimulus) + TIMEOUT + 20
    assert all(now["passed"] for now in seen[first:])
    # The blinking light turns with the first round that ends after a while.
    blinks = np.flatnonzero(np.diff([now["blink"] for now in seen]))
    assert len(blinks) >= 3
    rounds = -(-BLINK // first)
    assert rounds > 1
    assert set(np.diff(blinks)) == {rounds * first}, "a round is as long as the first"


def test_feeds_without_a_pause() -> None:
    core, stimulus, expected = stored(7, (30,))
    accepted = []
    test = SelfTest(core, stored=Stored(stimulus=stimulus, expected=expected, timeout=TIMEOUT))

    async def watch(ctx: SimulatorContext) -> None:
        for _ in range(40):
            accepted.append(ctx.get(core.s_axis_tvalid) & ctx.get(core.s_axis_tready))
            await ctx.tick()

    simulator = Simulator(test)
    simulator.add_clock(1e-6)
    simulator.add_testbench(watch)
    simulator.run()
    assert "".join(map(str, accepted)).strip("0") == "1" * 30


@pytest.mark.parametrize("at", [0, 3, 4, 5, 13])
@pytest.mark.parametrize("fault", ["bit", "last", "missing", "surplus"])
def test_catches_a_fault_of_the_core(fault: str, at: int) -> None:
    """In the first word, the last of a round, the first of the second one, and a later one."""
    core, stimulus, expected = stored(11, (5, 2, 1, 12, 3))
    one_round = len(stimulus) + TIMEOUT + 20
    _, seen = lights(Saboteur(core, fault=fault, at=at), stimulus, expected,
                     cycles=5 * one_round)
    failed = [now["failed"] for now in seen]
    when = failed.index(1)
    assert when < (at // len(expected) + 1) * one_round, "caught in its own round"
    assert all(failed[when:]), "a failure stays"
    assert not any(now["passed"] or now["running"] for now in seen[when:])
    assert any(now["passed"] for now in seen[:when]) == (at >= len(expected)), "passed until then"


@pytest.mark.parametrize("bit", [0, 17, 31])
def test_catches_every_bit_of_the_stored_words(bit: int) -> None:
    core, stimulus, expected = stored(5, (4, 4))
    expected[1] = Beat(expected[1].data ^ 1 << bit, True)
    _, seen = lights(core, stimulus, expected, cycles=80)
    assert seen[-1]["failed"]


def test_catches_a_surplus_word_that_is_right() -> None:
    """Every word equals every other, so only their number tells."""
    core = StandIn([[1]])
    stimulus = packed([np.array([[7]])] * 4)
    assert lights(core, stimulus, [Beat(7, True)] * 4, 200)[1][-1]["passed"]
    for count in (3, 5):
        _, seen = lights(core, stimulus, [Beat(7, True)] * count, 200)
        assert seen[-1]["failed"]
        assert not any(now["passed"] for now in seen)


def test_shows_the_flags_of_the_core() -> None:
    core, stimulus, expected = stored(3, (4, 4))
    stimulus[3] = Beat(stimulus[3].data, False)
    _, seen = lights(core, stimulus, expected, cycles=80)
    assert seen[-1]["malformed"]
    assert seen[-1]["failed"]

    core = StandIn([[1], [1]])
    for value, flag in ((1, 0), (-1, 1)):
        x = np.array([[value], [0]])
        _, seen = lights(core, packed([x]), [Beat(core.compute(x), True)], cycles=100)
        assert (seen[-1]["saturated"], seen[-1]["passed"]) == (flag, 1)


def test_refuses_what_does_not_fit_the_ports() -> None:
    core = StandIn([[1]])
    good = [Beat(0, True)]
    for stimulus, expected, message in (
            ([Beat(65536, True)], good, "stimulus word must have 16 bits, not the value 65536"),
            (good, [Beat(-1, True)], "expected word must have 32 bits, not the value -1"),
            (good, [], "expected must hold one word at least")):
        with pytest.raises(ValueError, match=f"^{message}$"):
            SelfTest(core, stored=Stored(stimulus=stimulus, expected=expected, timeout=9))
    with pytest.raises(ValueError, match=r"^timeout must be 2 cycles at least, not 1$"):
        SelfTest(core, stored=Stored(stimulus=good, expected=good, timeout=1))
    with pytest.raises(ValueError, match=r"^blink must be 2 cycles at least, not 1$"):
        SelfTest(core, stored=Stored(stimulus=good, expected=good, timeout=9), blink=1)


class Pins:
    """A platform in the simulator."""

    default_clk = "clock"

    def __init__(self) -> None:
        self.ports: dict[tuple[str, int], io.SimulationPort] = {}

    def request(self, name: str, number: int = 0, *, dir: str) -> io.SimulationPort:
        return self.ports.setdefault((name, number), io.SimulationPort("io", 1))


class Board(wiring.Component):
    """The top on a platform of its own, since a simulator has none."""

    def __init__(self, top: SelfTestTop, pins: Pins):
        self._top, self._pins = top, pins
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        return self._top.elaborate(self._pins)


def test_reset_lasts_for_the_start_up_and_while_the_button_is_pressed() -> None:
    board = find("icebreaker")
    core = StandIn([[1, 2]])
    stored = Stored(stimulus=packed([np.array([[3, 4]])]), expected=[Beat(11, True)],
                    timeout=TIMEOUT)
    pins = Pins()
    top = Board(SelfTestTop(SelfTest(core, stored=stored), board=board), pins)
    offered = []

    async def bench(ctx: SimulatorContext) -> None:
        clock, button = (pins.ports[name, 0].i for name in ("clock", board.button[0]))
        for cycle in range(1200):
            ctx.set(button, 600 <= cycle < 700)
            for level in (0, 1):
                ctx.set(clock, level)
                await ctx.delay(1e-8)
            if ctx.get(core.s_axis_tvalid):
                offered.append(cycle)

    simulator = Simulator(top)
    simulator.add_testbench(bench)
    simulator.run()
    start_up = START_UP_US * board.clock_hz / 1e6
    assert start_up == 240
    # The first word comes at once after the reset, for the first time and after the button.
    first = offered[0]
    assert start_up <= first < start_up + 5
    again = next(cycle for cycle in offered if cycle > 700)
    assert 700 + start_up <= again < 700 + start_up + 8
    assert not any(603 <= cycle < again for cycle in offered)
