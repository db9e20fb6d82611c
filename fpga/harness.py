"""The top for area and speed: every port of the core behind a register.

The input registers form one shift register, fed from a single pin, and the output registers are
kept although nothing reads them. So the harness costs one flip-flop per port bit and no lookup
table, whatever the width of the streams: no port is too wide for the package, every path of the
core lies between two registers, and no pin's place pulls the placement about. Nothing in the core
can be optimised away, because synthesis must assume any sequence of input bits and must keep every
output register.
"""

from typing import Any

from amaranth.hdl import Cat, ClockDomain, ClockSignal, Module, ResetSignal, Signal
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, Out

from fpga.boards import Board

__all__ = ["Harness", "HarnessTop"]


class Harness(wiring.Component):
    """A core with every port registered.

    Parameters
    ----------
    core : wiring.Component
        Flat ports only (no streams, no arrays), in the domain ``sync``.

    Attributes
    ----------
    registers : int
        Flip-flops of the harness itself: one per port bit, and one that resets the core.

    Members
    -------
    scan : In(1)
        Shifts through all input registers, one bit per cycle: into bit 0 of the first input port,
        in the order in which the core lists them, and from the last one's top bit into ``reset``.
    reset : Out(1)
        The register that is to drive the reset of the domain.
    """

    def __init__(self, core: wiring.Component) -> None:
        self.core = core
        self._inputs, self._outputs = (
            [getattr(core, name) for name, member in core.signature.members.items()
             if member.flow == flow] for flow in (In, Out))
        self.registers = sum(map(len, self._inputs)) + sum(map(len, self._outputs)) + 1
        super().__init__({"scan": In(1), "reset": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.core = self.core
        # Nothing here is reset, since a reset costs a wire to every register and `reset` is
        # itself one of them.
        inputs, outputs = Cat(*self._inputs), Cat(*self._outputs)
        driver = Signal(len(inputs) + 1, reset_less=True)
        keeper = Signal(len(outputs), reset_less=True, attrs={"keep": 1})
        m.d.sync += driver.eq(Cat(self.scan, driver))
        m.d.sync += keeper.eq(outputs)
        m.d.comb += Cat(inputs, self.reset).eq(driver)
        return m


class HarnessTop(wiring.Component):
    """The harness on a board: the clock from its oscillator's pin, the scan from its button.

    Parameters
    ----------
    core : wiring.Component
        As of :class:`Harness`.
    board : Board

    Attributes
    ----------
    harness : Harness
    """

    def __init__(self, core: wiring.Component, *, board: Board) -> None:
        self.harness = Harness(core)
        self._board = board
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        clock = platform.request(platform.default_clk, dir="-")
        scan = platform.request(*self._board.button, dir="-")
        m.submodules.clock = clock_buffer = io.Buffer(io.Direction.Input, clock)
        m.submodules.scan = scan_buffer = io.Buffer(io.Direction.Input, scan)
        m.submodules.harness = harness = self.harness
        m.domains.sync = ClockDomain()
        m.d.comb += [
            ClockSignal().eq(clock_buffer.i),
            ResetSignal().eq(harness.reset),
            harness.scan.eq(scan_buffer.i),
        ]
        return m
