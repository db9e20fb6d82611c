"""The monitor: writes down what happens at the ports and probes of a design, cycle by cycle.

It is a Verilog module around the design, so that it sees every clock edge at no cost in Python: a
Python coroutine that wakes at every edge is slower than the whole simulation of a small network.
Each port and probe has a file of fixed-size records, which `Recording` reads while the simulation
runs.
The module also counts beats and sequences, so that Python can wait for one of them, and watches
over the rule that a word, once offered, stays until it is taken.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hdl.bus import signed
from sim.manifest import Manifest, Probe, Stream

__all__ = ["BENCH", "WATCH", "Beats", "Recording", "Values", "bench_verilog", "recorded_words",
           "unknown_output", "watching_verilog"]

BENCH = "gatefold_bench"
"""The name of the module around the design."""

WATCH = "gatefold_watch"
"""The name of the module that says which outputs are X."""

_PUBLIC = "/*verilator public_flat_rw*/"


def recorded_words(bits: int) -> int:
    """32-bit words in which a signal is recorded."""
    return -(-bits // 32)


def _escaped(name: str) -> str:
    """A Verilog identifier, whatever characters it has."""
    return name if name.isidentifier() else f"\\{name} "


def _below_top(path: str) -> str:
    """A hierarchical name, seen from the module around the top."""
    return ".".join(["dut", *map(_escaped, path.split(".")[1:])])


def _slices(signal: str, bits: int) -> str:
    """A signal extended to whole words."""
    spare = 32 * recorded_words(bits) - bits
    return f"{{{spare}'d0, {signal}}}" if spare else signal


def bench_verilog(manifest: Manifest, *, clocked: bool = False) -> str:
    """The module around a design, in Verilog.

    Parameters
    ----------
    manifest : Manifest
    clocked : bool
        Whether it makes its own clock, for a simulator whose main program does not: rising edges
        at odd times, and no port ``clk``.

    Its ports are those of the design, and:

    ========================  ====  ============================================================
    ``flush``                 in    Files are complete after a clock edge with this high.
    ``beats_in, frames_in``   out   Beats, and beats with TLAST, taken at the input since the
                                    start.
    ``beats_out, frames_out`` out   The same at the output.
    ``packets_out``           out   Packets of states taken, where the design gives any.
    ``met``                   out   Which of {TVALID, TREADY of the input, TVALID, TREADY of the
                                    output} there has been, a bit for each; sticky.
    ``unstable``              out   An offered output was changed or withdrawn; sticky.
    ``unknown``               out   The first cycle in which an output was X that must not be: a
                                    valid or ready or a flag, or what goes with a high valid; 0 if
                                    none was.
    ``cycle``                 out   Clock edges since the start.
    ========================  ====  ============================================================

    Files are written into the current folder.
    """
    s, m, ids, out = manifest.input, manifest.output, manifest.id_bits, manifest.state_output
    # What goes with a beat's data: a word with TLAST, and TID above it.
    s_tags, m_tags = (", ".join([*([f"{part.prefix}_tid"] if ids else []), f"{part.prefix}_tlast"])
                      for part in (s, m))
    s_word, m_word = (f"{31 - ids}'d0, {tags}" for tags in (s_tags, m_tags))
    streams = _stream_ports(manifest)
    ports = [
        ("input", 1, "clk"), ("input", 1, "rst"), ("input", 1, "flush"), *streams,
        ("output", max(1, len(manifest.saturation)), "saturated"), ("output", 1, "malformed"),
        ("output reg", 32, "beats_in"), ("output reg", 32, "frames_in"),
        ("output reg", 32, "beats_out"), ("output reg", 32, "frames_out"),
        *([("output reg", 32, "packets_out")] if out else []), ("output reg", 16, "met"),
        ("output reg", 1, "unstable"), ("output reg", 64, "unknown"), ("output reg", 64, "cycle"),
    ]
    lines = ["`timescale 1ps / 1ps"] if clocked else []
    lines += [f"module {BENCH} ("]
    # Python reads a bit much faster than a vector of one bit.
    lines += [f"  {direction} {f'[{width - 1}:0] ' if width > 1 else ''}{name} "
              f"{_PUBLIC}{',' if n < len(ports) else ''}"
              for n, (direction, width, name) in enumerate(ports, start=1)
              if not (clocked and name == "clk")]
    leaks = "" if manifest.watched else f" = {unknown_output(manifest)}"
    lines += [");", *(["  reg clk = 0;", "  always #1 clk = !clk;"] if clocked else []),
              f"  wire leaks{leaks};",
              f"  {_escaped(manifest.name)} dut ("]
    # The design keeps its own names for clock and reset; the bench's main program knows `clk`.
    pins = [(manifest.clock, "clk"), (manifest.reset, "rst"),
            *((name, name) for _, _, name in streams), ("malformed", "malformed")]
    if manifest.saturation:
        pins.append(("saturated", "saturated"))
    if manifest.watched:
        pins.append(("unknown", "leaks"))
    lines += [f"    .{_escaped(pin)}({net}){',' if n < len(pins) else ''}"
              for n, (pin, net) in enumerate(pins, start=1)]
    lines += ["  );"]
    if not manifest.saturation:
        lines += ["  assign saturated = 1'b0;"]

    files = ["input", "output", *(f"probe{n}" for n in range(len(manifest.probes)))]
    if out:
        files.append("states")
    waits = [("input", s), ("output", m), *([("states", out)] if out else [])]
    lines += [f"  reg [31:0] {name}_waited;" for name, _ in waits]
    lines += [f"  integer {name}_file;" for name in files]
    lines += ["  initial begin"]
    lines += [f"    {name}_file = $fopen(\"{name}.bin\", \"wb\");" for name in files]
    lines += [f"    {name} = 0;" for direction, _, name in ports if direction == "output reg"]
    lines += [f"    {name}_waited = 0;" for name, _ in waits]
    if out:
        lines += ["    packet_held = 0;"]
    lines += ["    held = 0;", "  end",
              *(["  reg packet_held;", f"  reg [{out.width + ids}:0] packet_offered;"] if out
                else []),
              "  reg held;",
              f"  reg [{m.width + ids}:0] offered;",
              f"  wire [{m.width + ids}:0] offer = {{{m_tags}, {m.prefix}_tdata}};",
              "  always @(posedge clk) begin",
              "    cycle <= cycle + 1;",
              "    if (!rst && leaks && unknown == 0) unknown <= cycle;",
              f"    if (!rst) met[{{{s.prefix}_tvalid, {s.prefix}_tready, {m.prefix}_tvalid, "
              f"{m.prefix}_tready}}] <= 1;",
              *(
                  f"    {name}_waited <= !rst && {port.prefix}_tvalid && !{port.prefix}_tready "
                  f"? {name}_waited + 1 : 0;" for name, port in waits),
              f"    held <= !rst && {m.prefix}_tvalid && !{m.prefix}_tready;",
              "    offered <= offer;",
              f"    if (!rst && held && (!{m.prefix}_tvalid || offer != offered)) unstable <= 1;",
              f"    if (!rst && {s.prefix}_tvalid && {s.prefix}_tready) begin",
              "      beats_in <= beats_in + 1;",
              f"      frames_in <= frames_in + {{31'd0, {s.prefix}_tlast}};",
              f"      $fwrite(input_file, \"%u\", {{input_waited, {s_word}, cycle}});",
              "    end",
              f"    if (!rst && {m.prefix}_tvalid && {m.prefix}_tready) begin",
              "      beats_out <= beats_out + 1;",
              f"      frames_out <= frames_out + {{31'd0, {m.prefix}_tlast}};",
              f"      $fwrite(output_file, \"%u\", {{{_slices(f'{m.prefix}_tdata', m.width)}, "
              f"output_waited, {m_word}, cycle}});",
              "    end"]
    if out:
        tags = f"{out.prefix}_tid, {out.prefix}_tlast" if ids else f"{out.prefix}_tlast"
        lines += [f"    packet_held <= !rst && {out.prefix}_tvalid && !{out.prefix}_tready;",
                  f"    packet_offered <= {{{tags}, {out.prefix}_tdata}};",
                  f"    if (!rst && packet_held && (!{out.prefix}_tvalid ||",
                  f"        {{{tags}, {out.prefix}_tdata}} != packet_offered)) unstable <= 1;",
                  f"    if (!rst && {out.prefix}_tvalid && {out.prefix}_tready) begin",
                  f"      packets_out <= packets_out + {{31'd0, {out.prefix}_tlast}};",
                  f"      $fwrite(states_file, \"%u\", "
                  f"{{{_slices(f'{out.prefix}_tdata', out.width)}, states_waited, "
                  f"{31 - ids}'d0, {tags}, cycle}});",
                  "    end"]
    for n, probe in enumerate(manifest.probes):
        valid, data = _below_top(probe.valid), _below_top(probe.data)
        stream, shown = "", f"|{valid}"
        if probe.stream and probe.direction is None:
            stream = f"{_slices(_below_top(probe.stream), ids)}, "
        elif probe.stream:
            shown += f" && {_below_top(probe.stream)} == {probe.direction}"
        lines += [f"    if (!rst && {shown}) $fwrite(probe{n}_file, \"%u\", "
                  f"{{{_slices(data, probe.lanes * probe.width)}, {_slices(valid, probe.lanes)}, "
                  f"{stream}cycle}});"]
    lines += ["    if (flush) begin",
              *(f"      $fflush({name}_file);" for name in files),
              "    end", "  end", "endmodule"]
    return "\n".join(lines) + "\n"


def unknown_output(manifest: Manifest) -> str:
    """A Verilog expression: is an output X that must not be?

    Data, TLAST and TID may be while nothing is offered. Without X in the simulator it is 0.
    """
    always = [f"{manifest.input.prefix}_tready", "malformed"]
    always += ["saturated"] if manifest.saturation else []
    always += [f"{manifest.state_input.prefix}_tready"] if manifest.state_input else []
    terms = []
    for stream in filter(None, (manifest.output, manifest.state_output)):
        always.append(f"{stream.prefix}_tvalid")
        offered = [f"{stream.prefix}_tdata", f"{stream.prefix}_tlast",
                   *([f"{stream.prefix}_tid"] if manifest.id_bits else [])]
        terms.append(f"{stream.prefix}_tvalid && (^{{{', '.join(offered)}}}) === 1'bx")
    return " || ".join([f"(^{{{', '.join(always)}}}) === 1'bx", *terms])


def watching_verilog(manifest: Manifest) -> str:
    """A module around a design, with its ports and `unknown_output` at one more, ``unknown``.

    What comes with a valid that is low is X, whatever it was outside.
    """
    ports = [("input", 1, manifest.clock), ("input", 1, manifest.reset), *_stream_ports(manifest),
             ("output", 1, "malformed")]
    if manifest.saturation:
        ports.append(("output", len(manifest.saturation), "saturated"))

    def given(direction: str, width: int, name: str) -> str:
        prefix, _, signal = name.rpartition("_")
        if direction == "input" and signal in ("tdata", "tlast", "tid", "tuser"):
            return f"{prefix}_tvalid ? {name} : {width}'bx"
        return name

    lines = [f"module {WATCH} ("]
    lines += [f"  {direction} [{width - 1}:0] {_escaped(name)},"
              for direction, width, name in ports]
    lines += ["  output unknown", ");", f"  {_escaped(manifest.name)} dut (",
              ",\n".join(f"    .{_escaped(port[2])}({given(*port)})" for port in ports), "  );",
              f"  assign unknown = {unknown_output(manifest)};", "endmodule"]
    return "\n".join(lines) + "\n"


def _stream_ports(manifest: Manifest) -> list[tuple[str, int, str]]:
    """The ports of all streams of a design: direction, width, name."""
    ports, ids = [], manifest.id_bits
    if manifest.stateful:
        ports.append(("input", 1, f"{manifest.input.prefix}_tuser"))
    for part, ours, theirs in ((manifest.state_input, "input", "output"),
                               (manifest.state_output, "output", "input"),
                               (manifest.input, "input", "output"),
                               (manifest.output, "output", "input")):
        if part:
            ports += [(ours, part.width, f"{part.prefix}_tdata"),
                      (ours, 1, f"{part.prefix}_tvalid"), (ours, 1, f"{part.prefix}_tlast"),
                      (theirs, 1, f"{part.prefix}_tready"),
                      *([(ours, ids, f"{part.prefix}_tid")] if ids else [])]
    return ports


@dataclass(frozen=True, kw_only=True, eq=False)
class Beats:
    """Beats of an AXI4-Stream.

    Parameters
    ----------
    cycles : int64 array [B]
    last : bool array [B]
        TLAST.
    stream : int64 array [B]
        TID; 0 where there is one stream only.
    data : uint8 array [B, lanes * bytes], or [B, 0] at the input, whose data the bench knows
    waited : int64 array [B]
        Cycles for which it was offered before it was taken; empty where nobody asks for them.
    """

    cycles: np.ndarray
    last: np.ndarray
    stream: np.ndarray
    data: np.ndarray
    waited: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True, kw_only=True, eq=False)
class Values:
    """What a probe showed: a value for each unit, in order.

    Parameters
    ----------
    cycles, values : int64 array [K]
    stream : int64 array [K]
        What each value's step belongs to; 0 where there is one stream only.
    """

    cycles: np.ndarray
    values: np.ndarray
    stream: np.ndarray


class _RecordFile:
    """A file of fixed-size records that grows while it is read."""

    def __init__(self, path: Path, extra_words: int) -> None:
        self._path = path
        self._offset = 0
        self._dtype = np.dtype([("cycle", "<u8"), ("words", "<u4", (extra_words,))])

    def read(self) -> np.ndarray:
        # A read that begins where the last one ended costs nothing for what was read before.
        records = np.fromfile(self._path, dtype=self._dtype, offset=self._offset)
        self._offset += records.nbytes
        return records


class Recording:
    """What the monitor wrote into a folder; every call gives what is new since the last.

    Parameters
    ----------
    manifest : Manifest
    folder : Path
        In which the simulation runs.
    """

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        self._output = manifest.output
        self._states = manifest.state_output
        self._probes = manifest.probes
        self._input_file = _RecordFile(folder / "input.bin", 2)
        self._output_file = _RecordFile(folder / "output.bin",
                                        2 + recorded_words(self._output.width))
        self._probe_files = [
            _RecordFile(folder / f"probe{n}.bin", _stream_words(probe) + recorded_words(probe.lanes)
                        + recorded_words(probe.lanes * probe.width))
            for n, probe in enumerate(manifest.probes)]

        self._states_file = _RecordFile(
            folder / "states.bin", 2 + recorded_words(self._states.width) if self._states else 0)

    def inputs(self) -> Beats:
        """New beats taken at the input."""
        return _beats(self._input_file.read(), None)

    def outputs(self) -> Beats:
        """New beats taken at the output."""
        return _beats(self._output_file.read(), self._output)

    def packets(self) -> Beats | None:
        """New beats of states taken, where the design gives any."""
        return _beats(self._states_file.read(), self._states) if self._states else None

    def probes(self) -> list[Values]:
        """New values of each probe, in the manifest's order."""
        return [_values(file.read(), probe)
                for file, probe in zip(self._probe_files, self._probes, strict=True)]


def _stream_words(probe: Probe) -> int:
    return 1 if probe.stream and probe.direction is None else 0


def _beats(records: np.ndarray, stream: Stream | None) -> Beats:
    words = records["words"]
    octets, tags = _octets(words)[:, 8:], words[:, 0].astype(np.int64)
    return Beats(cycles=records["cycle"].astype(np.int64), last=(tags & 1).astype(bool),
                 stream=tags >> 1, waited=words[:, 1].astype(np.int64),
                 data=octets[:, :stream.width // 8 if stream else 0])


def _octets(words: np.ndarray) -> np.ndarray:
    """The bytes of words, the lowest first: uint32 [K, n] to uint8 [K, 4 n]."""
    return np.ascontiguousarray(words).view(np.uint8)


def _values(records: np.ndarray, probe: Probe) -> Values:
    words, mask_words = records["words"], recorded_words(probe.lanes)
    stream = np.zeros(len(words), dtype=np.int64)
    if _stream_words(probe):
        stream, words = words[:, 0].astype(np.int64), words[:, _stream_words(probe):]

    def bits(words: np.ndarray, count: int) -> np.ndarray:
        return np.unpackbits(_octets(words), axis=1, count=count, bitorder="little")

    shown = bits(words[:, :mask_words], probe.lanes).astype(bool)
    data = bits(words[:, mask_words:], probe.lanes * probe.width)
    octets = np.packbits(data.reshape(len(records), probe.lanes, probe.width), axis=2,
                         bitorder="little")
    spare = 8 * octets.shape[2] - probe.width
    values = signed(octets) << 64 - probe.width >> 64 - probe.width if spare else signed(octets)
    # Every lane's value has the record's cycle and stream.
    row = np.nonzero(shown)[0]
    return Values(cycles=records["cycle"].astype(np.int64)[row], values=values[shown],
                  stream=stream[row])
