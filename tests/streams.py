"""Driving a network's AXI4-Stream ports in Amaranth's simulator."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np
from amaranth.hdl import Const, ResetInserter, Signal
from amaranth.sim import Simulator

from hdl.network import Network

__all__ = ["Exchange", "interleaved", "pack", "run_network"]


@dataclass
class Exchange:
    """What came out, and when.

    Parameters
    ----------
    words : list of (list of int, bool)
        Output vectors with their TLAST.
    streams : list of int
        TID of each of them, 0 where there is none.
    taken : list of int
        Cycle in which the last input beat of each step was taken.
    given, done : list of int
        Cycles in which the first and the last beat of each output vector were taken.
    states : dict of list of (int, int, list of int)
        New states of each layer as the probes show them, keys like ``lstm0.c``: the cycle, the
        stream, and the codes of the units.
    packets : list of (int, list of int)
        TID, or 0, and elements of each packet of final states.
    sent : list of (int, int)
        Cycles in which the first and the last element of each packet were taken.
    resets : list of int
        How many of the words came before each reset amid the beats.
    saturated, malformed : int
        The flags at the end.
    reported : int
        The first cycle in which ``malformed`` was high; 0 where it never was.
    """

    words: list[tuple[list[int], bool]] = field(default_factory=list)
    streams: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    states: dict[str, list[tuple[int, int, list[int]]]] = field(default_factory=dict)
    packets: list[tuple[int, list[int]]] = field(default_factory=list)
    sent: list[tuple[int, int]] = field(default_factory=list)
    resets: list[int] = field(default_factory=list)
    saturated: int = 0
    malformed: int = 0
    reported: int = 0

    def of(self, stream: int) -> list[tuple[list[int], bool]]:
        """The words of one stream."""
        return [word for word, one in zip(self.words, self.streams, strict=True) if one == stream]

    def states_of(self, tensor: str, stream: int, units: int) -> list[list[int]]:
        """The states of one stream, a list for each step."""
        codes = [code for _, whose, some in self.states[tensor] if whose == stream
                 for code in some]
        return [codes[n:n + units] for n in range(0, len(codes), units)]

    def steps_of(self, tensor: str, stream: int, units: int) -> list[tuple[int, int]]:
        """When the first and the last state of each step of one stream came out."""
        cycles = [now for now, whose, some in self.states[tensor] if whose == stream
                  for _ in some]
        return list(zip(cycles[::units], cycles[units - 1::units], strict=True))

    def clear(self) -> None:
        for before in (self.words, self.streams, self.taken, self.given, self.done, self.packets,
                       self.sent,
                       *self.states.values()):
            before.clear()


def pack(codes: Iterable[int], lanes: int, size: int) -> list[int]:
    """Elements as bus beats."""
    codes = [int(code) for code in codes]
    return [sum((code & (1 << size) - 1) << size * lane
                for lane, code in enumerate(codes[n:n + lanes]))
            for n in range(0, len(codes), lanes)]


def interleaved(dut: Network, sequences: Sequence[Sequence[np.ndarray]],
                order: Iterable[int] | None = None) -> list[tuple[int, bool, int]]:
    """The bus beats of several streams' sequences, step by step.

    Parameters
    ----------
    sequences : sequence of sequence of int arrays, T x N
        Those of each stream.
    order : iterable of int, optional
        Whose turn it is, for each step; by default in turn. Who has no more steps is passed over.
    """
    waiting = [[(step, t == len(x) - 1) for x in some for t, step in enumerate(x)]
               for some in sequences]
    beats = []
    turns = iter(order) if order is not None else cycle(range(len(sequences)))
    while any(waiting):
        stream = next(turns)
        if waiting[stream]:
            step, last = waiting[stream].pop(0)
            words = pack(step, dut.in_lanes, 8 * dut.in_bytes)
            beats += [(word, last and n == len(words) - 1, stream) for n, word in enumerate(words)]
    return beats


def _signed(code: int, width: int) -> int:
    return code - (code >> width - 1 << width)


def run_network(dut: Network, sequences: Sequence[np.ndarray], *, outputs: int,
                stall: float = 0.0, seed: int = 0, reset_after: int | None = None,
                limit: int = 100_000, quiet: int = 300,
                beats: Sequence[Any] | None = None, packets: int = 0,
                hold: int = 0, hold_states: int = 0, before: Sequence[Any] | None = None
                ) -> Exchange:
    """Feed sequences back to back and collect output vectors.

    Parameters
    ----------
    sequences : sequence of int arrays, T x N
    outputs : int
        Vectors to wait for; those after the last reset, where there are any among the beats.
    stall : float
        Probability that a side is not ready in a cycle.
    reset_after : int, optional
        Reset in the cycle after so many beats have been taken, and feed all from the start.
    quiet : int
        Cycles more, which show that no other vector follows.
    beats : sequence of (int, bool, int) or int, optional
        Bus beats with their TLAST and TID in place of ``sequences``, and of a stateful network with
        TUSER; a number is a pause of so many cycles, and None a reset. A list of such ones, the
        TLAST as ``last``, goes to the port of states, and what follows waits for it.
    packets : int
        Packets of final states to wait for.
    hold, hold_states : int
        Cycles in which no output, and none of them, is taken.
    before : sequence, optional
        Beats that are fed before a reset, in place of ``reset_after``.
    """
    seen = Exchange()
    rng = np.random.default_rng(seed)
    per_step = -(-dut.network.inputs // dut.in_lanes)
    fed = beats if beats is not None else interleaved(dut, [sequences])
    probes = [(f"lstm{n}.{tensor}", getattr(engine.layer.formats, tensor).width,
               [getattr(engine, f"probe_{tensor}_{part}") for part in ("valid", "data", "stream")])
              for n, engine in enumerate(dut.engines)
              for tensor in (("c", "m", "h") if engine.cycles.projection else ("c", "h"))]
    seen.states = {name: [] for name, _, _ in probes}
    resets = sum(beat is None for beat in fed)
    now = 0
    vector: list[int] = []
    states_sink: list[tuple[int, int, int]] = []

    reset = Signal()
    simulator = Simulator(ResetInserter(reset)(dut))
    simulator.add_clock(1e-6)

    async def source(ctx):
        async def give(some):
            for word, last, tid in some:
                while stall and rng.random() < stall:
                    await ctx.tick()
                ctx.set(dut.s_state_axis_tdata, word)
                ctx.set(dut.s_state_axis_tlast, last)
                if dut.streams > 1:
                    ctx.set(dut.s_state_axis_tid, tid)
                ctx.set(dut.s_state_axis_tvalid, 1)
                await ctx.tick().until(dut.s_state_axis_tready)
                ctx.set(dut.s_state_axis_tvalid, 0)

        async def feed(some):
            count = 0
            for beat in some:
                if isinstance(beat, int):
                    await ctx.tick().repeat(beat)
                    continue
                if beat is None:
                    await restart()
                    seen.resets.append(len(seen.words))
                    continue
                if isinstance(beat, list):
                    await give(beat)
                    continue
                while stall and rng.random() < stall:
                    await ctx.tick()
                word, last, tid, *kept = beat
                ctx.set(dut.s_axis_tdata, word)
                ctx.set(dut.s_axis_tlast, last)
                if dut.streams > 1:
                    ctx.set(dut.s_axis_tid, tid)
                if kept and dut.network.stateful:
                    ctx.set(dut.s_axis_tuser, kept[0])
                ctx.set(dut.s_axis_tvalid, 1)
                await ctx.tick().until(dut.s_axis_tready)
                count += 1
                if count % per_step == 0:
                    seen.taken.append(now)
                ctx.set(dut.s_axis_tvalid, 0)

        async def restart():
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            vector.clear()
            states_sink.clear()

        if before is not None or reset_after is not None:
            await feed(fed[:reset_after] if before is None else before)
            await restart()
            seen.clear()
        await feed(fed)

    async def sink(ctx):
        nonlocal now
        size, idle = 8 * dut.out_bytes, 0
        whose = dut.m_axis_tid if dut.streams > 1 else Const(0)
        shown = [signal for _, _, signals in probes for signal in signals]
        final = [] if not dut.reader else [
            dut.m_state_axis_tvalid, dut.m_state_axis_tready, dut.m_state_axis_tdata,
            dut.m_state_axis_tlast, dut.m_state_axis_tid if dut.streams > 1 else Const(0)]
        while idle <= quiet:
            ctx.set(dut.m_axis_tready, now >= hold and rng.random() >= stall)
            if final:
                ctx.set(dut.m_state_axis_tready, now >= hold_states and rng.random() >= stall)
            _, _, valid, ready, word, last, tid, wrong, *states = await ctx.tick().sample(
                dut.m_axis_tvalid, dut.m_axis_tready, dut.m_axis_tdata, dut.m_axis_tlast, whose,
                dut.malformed, *shown, *final)
            now += 1
            if wrong and not seen.reported:
                seen.reported = now
            if final and all(states[len(shown):len(shown) + 2]):
                code, ended, of_stream = states[len(shown) + 2:]
                states_sink.append((now, of_stream, _signed(code, len(dut.m_state_axis_tdata))))
                assert len({whose for _, whose, _ in states_sink}) == 1
                if ended:
                    seen.packets.append((of_stream, [code for _, _, code in states_sink]))
                    seen.sent.append((states_sink[0][0], now))
                    states_sink.clear()
            for n, (name, width, _) in enumerate(probes):
                lanes, data, stream = states[3 * n:3 * n + 3]
                if lanes:
                    seen.states[name].append((now, stream, [
                        _signed(data >> width * lane & (1 << width) - 1, width)
                        for lane in range(lanes.bit_length()) if lanes >> lane & 1]))
            if valid and ready:
                if not vector:
                    seen.given.append(now)
                used = min(dut.out_lanes, dut.network.outputs - len(vector))
                vector.extend(_signed(word >> lane * size & (1 << size) - 1, size)
                              for lane in range(used))
                assert not word >> used * size
                if len(vector) == dut.network.outputs:
                    seen.words.append((vector.copy(), bool(last)))
                    seen.streams.append(tid)
                    seen.done.append(now)
                    vector.clear()
            since = seen.resets[-1] if seen.resets else 0
            enough = (len(seen.resets) == resets and len(seen.words) - since >= outputs
                      and len(seen.packets) >= packets)
            idle = idle + 1 if enough else 0
            assert now < limit, (f"only {len(seen.words)} of {outputs} vectors and "
                                 f"{len(seen.packets)} of {packets} packets came")
        seen.saturated = ctx.get(dut.saturated)
        seen.malformed = ctx.get(dut.malformed)

    # The sink goes first: it has counted the cycle when the source looks at it.
    simulator.add_testbench(sink)
    simulator.add_testbench(source, background=True)
    simulator.run()
    return seen
