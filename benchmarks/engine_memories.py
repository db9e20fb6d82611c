"""Bits of a design's memories: what its cycle model says, and what its Verilog declares."""

import re

from golden.activation import TANH
from golden.fixed import signed_width
from hdl.memories import DenseWidths, Widths, bias_widths, dense_memories, lstm_memories
from hdl.network import Network
from hdl.rounding import half

__all__ = ["memory_bits", "modelled_memories"]


def memory_bits(verilog: str) -> int:
    """Bits of all memories that the portable Verilog of a design declares."""
    found = re.findall(r"^\s*reg (?:signed )?(?:\[(\d+):0\] )?\\?\S+ +\[(\d+):0\];", verilog, re.M)
    return sum((int(top or 0) + 1) * (int(last) + 1) for top, last in found)


def modelled_memories(core: Network) -> dict[str, int]:
    """Bits of the memories of each layer by the cycle model, by layer and kind: ``lstm0.weights``.

    The widths are those of the network's formats and of its biases.
    """
    found: dict[str, int] = {}
    beat = core.in_lanes

    def gathered(n: int, beat: int) -> int:
        """Count the buffer before a part; gives the columns in a beat that the part takes."""
        buffer = core.buffers[n]
        if not buffer:
            return beat
        link = buffer.link
        found.update({f"sequence{n}.{kind}": bits for kind, bits in buffer.cycles.stored(
            x=link.x.width, y=link.y.width).items()})
        return buffer.cycles.columns

    for n, engine in enumerate(core.engines):
        layer, k, formats, every = (engine.layer, engine.cycles, engine.layer.formats,
                                    engine.directions)
        beat = gathered(n, beat)
        begun = any(each.initial_h.any() for each in every)
        of_each = [bias_widths(
            k, each.bias.tolist(), half(formats.product_fraction - formats.z.f),
            first=each.first_bias.tolist() if begun else None,
            halved=each.of_candidate.table and each.candidate_reading == TANH,
            banked=len(every) > 1) for each in every]
        table = layer.table
        widths = Widths(
            weight=max(formats.w_x.width, formats.w_h.width),
            bias=tuple(map(max, zip(*of_each, strict=True))),
            x=formats.x.width, h=formats.h.width, c=formats.c.width, segments=table.segments,
            knots=2 * table.knot_bits + table.curvature_bits,
            peephole=formats.p.width if formats.p else 1)
        found |= {f"lstm{n}.{kind}": bits
                  for kind, bits in lstm_memories(
                      k, widths, beat=beat, initial_h=begun,
                      initial_c=any(each.initial_c.any() for each in every),
                      directions=len(every)).items()}
        if k.projection and layer.projector and formats.w_r:
            of_projection = DenseWidths(weight=formats.w_r.width, bias=1, x=formats.m.width,
                                        y=formats.h.width)
            found |= {f"lstm{n}.projection.{kind}": bits for kind, bits in dense_memories(
                k.projection, of_projection, beat=k.folding.lanes, banks=len(every)
                ).items() if bits}
        beat = k.lanes
    beat = gathered(len(core.engines), beat)
    for n, dense in enumerate(core.head):
        head, of_head = dense.layer, dense.layer.formats
        ulp_half = half(of_head.product_fraction - of_head.z.f)
        of_table = {"segments": head.table.segments, "knots": 2 * head.table.knot_bits
                    + head.table.curvature_bits} if head.curve.table else {}
        held = DenseWidths(
            weight=of_head.w.width, x=of_head.x.width, y=of_head.y.width,
            bias=signed_width(min(head.bias.tolist()) + ulp_half,
                              max(head.bias.tolist()) + ulp_half),
            **of_table)
        found |= {f"{core.behind.name(n)}.{kind}": bits
                  for kind, bits in dense_memories(dense.cycles, held, beat=beat).items()}
        beat = dense.cycles.folding.rows
    behind = core.behind
    if behind.outlet:
        found |= {f"outlet.{kind}": bits for kind, bits in behind.outlet.cycles.memories(
            width=core.network.y.width, beat=beat).items()}
    if behind.vector:
        found |= {f"{behind.vector_name}.{kind}": bits
                  for kind, bits in behind.vector.cycles.memories().items()}
    if core.reader:
        found |= {f"states.{kind}": bits for kind, bits in core.reader.memories.items()}
    return found
