"""Plain registers in a row, registers that stay copies of one another, and counters of room."""

from typing import Any

from amaranth.hdl import ClockSignal, Const, Instance, Module, Shape, ShapeLike, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["COPY_MODULE", "COPY_VERILOG", "Copy", "delayed", "free_places"]

COPY_MODULE = "gatefold_copy"

# A synthesis tool takes registers with the same input for one. `keep` is Yosys's word and Quartus's
# against it, `dont_touch` that of Vivado. It stands before the block, since Yosys gives a cell the
# attributes of what it comes from.
COPY_VERILOG = f"""
module {COPY_MODULE} #(parameter WIDTH = 1) (
  input wire clk, input wire [WIDTH-1:0] d, output reg [WIDTH-1:0] q
);
  (* keep, dont_touch = "true" *)
  always @(posedge clk)
    q <= d;
endmodule
"""


def delayed(m: Module, value: Any, cycles: int, *, reset: bool = False) -> Any:
    """A value so many cycles later, through registers. A constant stays itself.

    Parameters
    ----------
    reset : bool
        Whether a reset makes them 0.
    """
    for _ in range(0 if isinstance(value, Const) else cycles):
        register = Signal.like(value, name="delayed", reset_less=not reset)
        m.d.sync += register.eq(value)
        value = register
    return value


def free_places(m: Module, count: int, *, taken: Value, freed: Value, name: str = "room"
                ) -> Signal:
    """How many of ``count`` pages, or places of a queue, are free; at first all."""
    room = Signal(range(count + 1), init=count, name=name)
    m.d.sync += room.eq(room + freed - taken)
    return room


class Copy(wiring.Component):
    """A register without reset that is not merged with another of the same input.

    So a signal reaches many places in several short ways instead of one long one.

    In generated Verilog it is an instance of the module ``COPY_MODULE``, whose text comes with it.
    Amaranth's own simulator has a plain register.

    Parameters
    ----------
    shape : Shape, or a layout

    Members
    -------
    d : In(shape)
    q : Out(shape)
        One cycle later.
    """

    def __init__(self, shape: ShapeLike):
        self._width = Shape.cast(shape).width
        super().__init__({"d": In(shape), "q": Out(shape)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if platform is None:
            register = Signal.like(self.q, name="register", reset_less=True)
            m.d.sync += register.eq(self.d)
            m.d.comb += self.q.eq(register)
        else:
            m.submodules.register = Instance(
                COPY_MODULE, p_WIDTH=self._width, i_clk=ClockSignal(), i_d=self.d, o_q=self.q)
        return m
