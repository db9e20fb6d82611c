"""The top for the board: it replays stored sequences and shows on the LEDs whether all is right.

The input words and the words that must come out lie in block RAM. A *round* sends all the former
and compares all the latter, data and TLAST; it ends when the core has been silent on both sides
for a time, so that a missing word is noticed and so is one too many. Then the next round starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    Module,
    Mux,
    ResetSignal,
    Signal,
    Value,
    ValueLike,
)
from amaranth.lib import io, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Out

from fpga.boards import Board
from fpga.stored import Beat, Stored

__all__ = ["SelfTest", "SelfTestTop"]

BLINK = 1 << 22
"""Cycles between changes of the blinking light, at least: at 25 MHz a sixth of a second."""

START_UP_US = 20
"""How long the reset lasts after configuration, in microseconds."""


def _words(name: str, beats: Sequence[Beat], width: int) -> list[int]:
    if not beats:
        raise ValueError(f"{name} must hold one word at least")
    for beat in beats:
        if not 0 <= beat.data < 1 << width:
            raise ValueError(f"{name} word must have {width} bits, not the value {beat.data}")
    # A Python int each: the memory refuses NumPy's.
    return [int(beat.data) | bool(beat.last) << width for beat in beats]


@dataclass(frozen=True)
class _Prefetched:
    """The next word at a memory's port."""

    word: Value
    valid: Signal
    done: Signal


class SelfTest(wiring.Component):
    """Replays words into a core, compares what it gives, and starts again.

    Parameters
    ----------
    core : wiring.Component
        The network, or anything with its ports.
    stored : Stored
    blink : int
        Cycles between changes of ``blink``, at least.

    Members
    -------
    running : Out(1)
        No error so far.
    passed : Out(1)
        A whole round was right, and there was no error since.
    failed : Out(1)
        A word was wrong in data or TLAST, was missing or too many, or the core found its input
        malformed. Stays until reset, and no further round starts.
    blink : Out(1)
        Toggles at the end of a round, but not too often for the eye: it moves as long as the core
        does.
    saturated : Out(1)
        Any of the core's sticky saturation flags.
    malformed : Out(1)
        The core's sticky flag.
    """

    def __init__(
        self, core: wiring.Component, *, stored: Stored, blink: int = BLINK,
    ) -> None:
        for name, value in (("timeout", stored.timeout), ("blink", blink)):
            if value < 2:
                raise ValueError(f"{name} must be 2 cycles at least, not {value}")
        self.core = core
        self.timeout = stored.timeout
        self._blink = blink
        self._stimulus = _words("stimulus", stored.stimulus, len(core.s_axis_tdata))
        self._expected = _words("expected", stored.expected, len(core.m_axis_tdata))
        super().__init__({name: Out(1) for name in (
            "running", "passed", "failed", "blink", "saturated", "malformed")})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.core = core = self.core
        restart = Signal()
        sent = self._prefetch(m, "stimulus", self._stimulus, len(core.s_axis_tdata) + 1, restart,
                              taken=core.s_axis_tready)
        m.d.comb += [
            core.s_axis_tvalid.eq(sent.valid),
            Cat(core.s_axis_tdata, core.s_axis_tlast).eq(sent.word),
        ]
        transfer = Signal()
        received = self._prefetch(m, "expected", self._expected, len(core.m_axis_tdata) + 1,
                                  restart, taken=transfer)
        m.d.comb += [
            # A word that comes in the one cycle in which its expected value is being read waits;
            # one that comes when none is expected any more must be seen.
            core.m_axis_tready.eq(received.valid | received.done),
            transfer.eq(core.m_axis_tvalid & core.m_axis_tready),
        ]

        wrong = Signal()
        m.d.comb += wrong.eq(
            transfer & (received.done
                        | (Cat(core.m_axis_tdata, core.m_axis_tlast) != received.word)))

        # Final states are taken and not looked at; none are kept or set.
        lively: Value = Const(0)
        if hasattr(core, "m_state_axis_tready"):
            m.d.comb += core.m_state_axis_tready.eq(1)
            lively = core.m_state_axis_tvalid

        silence = Signal(range(self.timeout))
        silent = Signal()
        m.d.sync += silence.eq(silence + 1)
        with m.If(transfer | (core.s_axis_tvalid & core.s_axis_tready) | lively | silent):
            m.d.sync += silence.eq(0)
        m.d.comb += silent.eq(silence == self.timeout - 1)

        # Stays at its end until a round ends.
        unchanged = Signal(range(self._blink))
        rested = unchanged == self._blink - 1
        m.d.sync += unchanged.eq(Mux(rested, unchanged, unchanged + 1))
        complete = sent.done & received.done
        with m.If(wrong | core.malformed | (silent & ~complete & ~transfer)):
            m.d.sync += [self.failed.eq(1), self.passed.eq(0)]
        with m.Elif(silent & complete & ~self.failed):
            m.d.comb += restart.eq(1)
            m.d.sync += self.passed.eq(1)
            with m.If(rested):
                m.d.sync += [self.blink.eq(~self.blink), unchanged.eq(0)]
        m.d.comb += [
            self.running.eq(~self.failed),
            self.saturated.eq(core.saturated.any()),
            self.malformed.eq(core.malformed),
        ]
        return m

    def _prefetch(
        self, m: Module, name: str, words: list[int], width: int, restart: Signal, *,
        taken: ValueLike,
    ) -> _Prefetched:
        """Store words in a memory and read one after the other, without a pause.

        A word is gone in a cycle with ``valid`` and ``taken``, and the next one is there in the
        following cycle. ``done`` once all are gone; ``restart`` begins anew.
        """
        memory: Memory[Any, Any] = Memory(shape=width, depth=len(words), init=words)
        m.submodules[name] = memory
        port = memory.read_port()
        index = Signal(range(len(words) + 1), name=f"{name}_index")
        valid = Signal(name=f"{name}_valid")
        done = Signal(name=f"{name}_done")
        m.d.comb += [
            port.addr.eq(index),
            port.en.eq((~valid | taken) & (index != len(words))),
            done.eq(~valid & (index == len(words))),
        ]
        with m.If(restart):
            m.d.sync += index.eq(0)
        with m.Elif(port.en):
            m.d.sync += [index.eq(index + 1), valid.eq(1)]
        with m.Elif(taken):
            m.d.sync += valid.eq(0)
        return _Prefetched(port.data, valid, done)


class SelfTestTop(wiring.Component):
    """The self-test on a board: its oscillator, its LEDs, its button.

    From LED 0 on: running, passed, failed, blink, saturated, malformed, as many as there are.
    """

    def __init__(self, selftest: SelfTest, *, board: Board) -> None:
        self.selftest = selftest
        self._board = board
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.selftest = test = self.selftest
        clock = platform.request(platform.default_clk, dir="-")
        button = platform.request(*self._board.button, dir="-")
        m.submodules.clock = clock_buffer = io.Buffer(io.Direction.Input, clock)
        m.submodules.button = button_buffer = io.Buffer(io.Direction.Input, button)

        # The button, synchronised, and a timer that holds the reset from configuration on: the
        # clock may cut into the start-up, and the block RAMs of an iCE40 read as zeros for some
        # 3 us (noted in Amaranth's platform of that family).
        pressed = Signal(2, reset_less=True)
        ready = Signal(reset_less=True)
        cycles = ceil(START_UP_US * self._board.clock_hz / 1e6)
        timer = Signal(range(cycles + 1), reset_less=True)
        m.domains.sync = ClockDomain()
        m.d.sync += pressed.eq(Cat(button_buffer.i, pressed))
        with m.If(pressed[-1]):
            m.d.sync += [timer.eq(0), ready.eq(0)]
        with m.Elif(timer == cycles):
            m.d.sync += ready.eq(1)
        with m.Else():
            m.d.sync += timer.eq(timer + 1)
        m.d.comb += [ClockSignal().eq(clock_buffer.i), ResetSignal().eq(~ready)]

        shown = (test.running, test.passed, test.failed, test.blink, test.saturated,
                 test.malformed)
        for number, signal in enumerate(shown[:self._board.leds]):
            led = platform.request("led", number, dir="-")
            m.submodules[f"led{number}"] = buffer = io.Buffer(io.Direction.Output, led)
            m.d.comb += buffer.o.eq(signal)
        return m
