"""What an engine's sequencer has done in the last cycles, and what must hold of it always.

The machine has no scoreboard: whatever is in its array and its drain is there a fixed time after
the sequencer let it go. So the state of the whole machine is a function of the words issued in the
last cycles, which a proof keeps: the *history*. That its registers agree with it are the invariants
that make a proof by induction one of a few cycles.
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value

from hdl.cycles import LSTMCycles
from hdl.mac import Sequencer
from proofs.checks import Checks
from proofs.engines import looked_up, register
from proofs.rules import opened

__all__ = ["History"]


class History:
    """The passes that a sequencer has ended, and the step that it is at.

    Parameters
    ----------
    m : Module
        Of the proof.
    aids : Checks
    sequencer : Sequencer
        Of an engine, not yet elaborated.
    cycles : LSTMCycles
    about : dict of Value
        What else is to be kept of each pass, as it is when its last word is issued.

    Attributes
    ----------
    cycles : LSTMCycles
    word, a_pass : Signal
        The word that is next.
    begins, amid : Value
        It is the first of a step; for each stream, a step of it has begun.
    ends : Value
        The last word of a pass is being issued.
    control : Module
        The sequencer's inside.
    ages : list of Signal
        For each stream, cycles since a step ended on which the next depends; ``bubble + 1`` at
        most.
    reach : int
        Cycles from the last word of a pass being issued to its last units coming out.
    ended, passes, stream : list
        Whether a pass ended n cycles ago, which one was the next then, and whose.
    about : dict of list
        The rest, likewise.
    """

    def __init__(self, m: Module, aids: Checks, sequencer: Sequencer, cycles: LSTMCycles,
                 about: dict[str, Value]):
        k = self.cycles = cycles
        control = self.control = opened(sequencer)
        self.word, self.a_pass = Signal(range(k.words)), Signal(range(k.passes))
        word, a_pass = self.word, self.a_pass
        last, final = word == k.words - 1, a_pass == k.passes - 1
        self.begins, self.ends = (word == 0) & (a_pass == 0), sequencer.issue & last
        with m.If(sequencer.issue):
            m.d.sync += word.eq(Mux(last, 0, word + 1))
            with m.If(last):
                m.d.sync += a_pass.eq(Mux(final, 0, a_pass + 1))
        for name, condition in {
                "word": (word < k.words) & (sequencer.word == word),
                "pass": (a_pass < k.passes) & (register(control, "a_pass") == a_pass),
                "begin": register(control, "begin") == self.begins,
                "first_pass": sequencer.first_pass == (a_pass == 0),
                "last": sequencer.last == last,
                "in_last": register(control, "in_last") == final,
                "end": sequencer.end == (last & final)}.items():
            aids.holds(f"sequencer_{name}", condition)

        present: Value = register(control, "present") if k.streams > 1 else sequencer.stream
        aids.holds("present", present < k.streams)
        self.amid = [~self.begins & (present == n) for n in range(k.streams)]
        self.ages = [self._age(m, aids, sequencer, control, n) for n in range(k.streams)]

        self.first = k.memory + k._written
        self.reach = self.first + (k.groups - 1) * k.folding.interval
        self.ended = self._chain(m, "ended", self.ends)
        self.passes = self._chain(m, "pass", a_pass)
        self.stream = self._chain(m, "stream", sequencer.stream)
        self.about = {name: self._chain(m, name, value) for name, value in about.items()}
        for n in range(1, self.reach + 1):
            passes = self.passes[n]
            aids.holds(f"passes{n}", (passes < k.passes) & (self.passes[n - 1] == Mux(
                self.ended[n], Mux(passes == k.passes - 1, 0, passes + 1), passes)))
            aids.follows(f"stream{n}", self.ended[n], self.stream[n] < k.streams)
            # No two passes end within the words of one.
            near = [self.ended[other] for other in range(max(1, n - k.words + 1), n)]
            aids.follows(f"apart{n}", self.ended[n], ~Cat(near).any() & (
                word < n if n < k.words else 1))
            # A step goes on without a pause once its first pass has ended.
            amid = Cat(self.amid).bit_select(self.stream[n], 1)
            aids.follows(f"goes_on{n}", self.ended[n] & (passes != k.passes - 1),
                         amid & (word == n - 1) & (a_pass == passes + 1) if n <= k.words else
                         self.ended[n - k.words] & (self.stream[n - k.words] == self.stream[n]))

    def _chain(self, m: Module, name: str, value: Value) -> list[Any]:
        chain: list[Any] = [value]
        for n in range(1, self.reach + 1):
            chain.append(Signal(value.shape(), name=f"{name}{n}"))
            m.d.sync += chain[n].eq(chain[n - 1])
        return chain

    def _age(self, m: Module, aids: Checks, sequencer: Sequencer, control: Module, n: int
             ) -> Signal:
        bubble = self.cycles.bubble
        age = Signal(range(bubble + 2), init=bubble + 1, name=f"age{n}")
        with m.If(sequencer.ended[n] & ~sequencer.free):
            m.d.sync += age.eq(1)
        with m.Elif(age <= bubble):
            m.d.sync += age.eq(age + 1)
        aids.holds(f"age{n}", (age > 0) & (age <= bubble + 1))
        aids.follows(f"rested{n}", self.amid[n], age > bubble)
        if bubble:
            for name, condition in {
                    "rests": register(control, f"rests{n}") == (age == 1),
                    "is_rested": register(control, "rested")[n] == (age > bubble),
                    "left": register(control, f"left{n}") == Mux(
                        (age >= 2) & (age <= bubble), bubble + 1 - age, 0)}.items():
                aids.holds(f"{name}{n}", condition)
        return age

    def of(self, field: str, cycles: int) -> Value:
        """What is kept of the pass that ended so many cycles ago."""
        return self.stream[cycles] if field == "stream" else self.about[field][cycles]

    def at(self, group: int) -> int:
        """How many cycles ago a pass ended whose units of that group come out now."""
        return self.first + group * self.cycles.folding.interval

    def count(self, m: Module, group: int) -> Value:
        """Units of the group that come out now, if any of it do."""
        k = self.cycles
        at = self.at(group)
        count = looked_up(m, self.passes[at], [k.count(p, group) for p in range(k.passes)],
                          f"count{group}")
        return Mux(self.ended[at], count, 0)

    def out(self, m: Module, aids: Checks, valid: Value, count: Value) -> Signal:
        """Units of a step that have come out, held against the history."""
        k = self.cycles
        out = Signal(range(k.hidden))
        with m.If(valid):
            m.d.sync += out.eq(Mux(out + count == k.hidden, 0, out + count))
        passed: Value = self.passes[self.reach] * k.folding.units
        for group in range(k.groups - 1):
            units = looked_up(m, self.passes[self.reach],
                              [k.count(p, group) for p in range(k.passes)], f"before{group}")
            passed = passed + Mux(
                Cat(self.ended[self.at(group) + 1:self.reach + 1]).any(), units, 0)
        aids.holds("out", out == Mux(passed == k.hidden, 0, passed))
        counts = [count for count in k.drained if count]
        aids.holds("out_starts", Cat(out == sum(counts[:n]) for n in range(len(counts))).any())
        return out
