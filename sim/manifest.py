"""What the bench knows of a design: the manifest beside its Verilog."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdl.bus import Bus
from hdl.families import FAMILIES
from sim.cells import block_models

__all__ = ["MANIFEST", "Manifest", "ManifestError", "Probe", "StateStream", "Stream"]

MANIFEST = "manifest.json"
"""The manifest's name in the folder of a design."""


class ManifestError(ValueError):
    """The folder holds no design that the bench can run."""


@dataclass(frozen=True, kw_only=True)
class Stream(Bus):
    """One of the two AXI4-Streams.

    Parameters
    ----------
    prefix : str
        The ports are ``prefix`` and ``_tdata``, ``_tvalid``, ``_tready``, ``_tlast``, and ``_tid``
        where there are several streams to tell apart.
    elements, lanes, bytes : int
        As in :class:`Bus`.
    """

    prefix: str


@dataclass(frozen=True, kw_only=True)
class StateStream(Stream):
    """A stream of states: each packet is one vector of all their elements.

    Parameters
    ----------
    names : tuple of str
        The states, in the order in which they travel; as in the vectors, ``lstm0.h`` for one.
    """

    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A signal inside the design that shows a tensor, ``lanes`` units at a time.

    Parameters
    ----------
    name : str
        The tensor's name in the vectors, ``lstm0.c``.
    layer : int
    tensor : str
    units : int
        Units of a step. They come in order, step after step.
    lanes : int
    width : int
        Bits of a value, two's complement.
    valid, data : str
        Hierarchical names, the top module first. Bit n of ``valid`` says that lane n of ``data``
        holds the next unit.
    stream : str or None
        Hierarchical name of the signal that says to which stream the units of this cycle belong;
        None where there is one stream only.
    direction : int or None
        Which of a layer's two directions it shows, that are streams within the layer: that signal
        says to which of them the units belong. None where there is one.
    """

    name: str
    layer: int
    tensor: str
    units: int
    lanes: int
    width: int
    valid: str
    data: str
    stream: str | None
    direction: int | None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A design as the bench sees it; see the fields' classes.

    Parameters
    ----------
    name : str
        The top module.
    verilog : Path
        The file with the top module and all below it.
    family : str or None
        One of :data:`hdl.families.FAMILIES`, if the Verilog instantiates that device's blocks.
    clock, reset : str
        Ports; the reset is synchronous and active high.
    streams : int
        Independent sequences that the design takes in turn. TID tells them apart.
    input, output : Stream
    every_step : bool
        Whether there is an output for every step, or one for each sequence.
    saturation : tuple of str
        The tensors behind the bits of the port ``saturated``.
    probes : tuple of Probe
        None where the Verilog was made into another form.
    layers : int
        LSTM layers.
    step : int
        Cycles between successive steps of a stream in steady state, by the cycle model, while all
        streams are busy.
    alone : int
        The same of a stream while the others are idle.
    work : int
        The fewest cycles between successive steps of a stream, while all are busy, where none has
        to wait for the state of the step before: in sequences of one step.
    further : int
        Cycles that each further step of a sequence adds to the time until its last output.
    longest : int or None
        Steps of a sequence, at most, where the design buffers whole sequences.
    held : int or None
        Steps that the design takes in while no output is taken, in sequences of one step, of which
        each stream has one in turn; None where it is not known.
    state_input, state_output : StateStream or None
        States that can be set, in a stateful design, and those that come out as a sequence ends.
    models : tuple of Path
        The behavioural models of all that the Verilog instantiates and does not contain.
    mapped : bool
        Whether the Verilog is a netlist of the family's cells.
    watched : bool
        Whether the top module has one output more, ``unknown``: in a cycle with this high another
        output is unknown that must not be.

    Attributes
    ----------
    id_bits : int
        Width of TID; 0 where there is one stream only, and no such port.
    stateful : bool
        Whether TUSER says that a state is kept.
    crowded : bool
        Whether a packet of states may take longer than a step, and set a pace of its own.
    breakable : bool
        Whether there is an input that the design calls malformed.
    settling : int
        Steps after which the layers have filled up: the buffers between them hold two each.
    """

    name: str
    verilog: Path
    family: str | None
    clock: str
    reset: str
    streams: int
    input: Stream
    output: Stream
    every_step: bool
    saturation: tuple[str, ...]
    probes: tuple[Probe, ...]
    layers: int
    step: int
    alone: int
    work: int
    further: int
    longest: int | None
    held: int | None = None
    state_input: StateStream | None = None
    state_output: StateStream | None = None
    models: tuple[Path, ...] = ()
    mapped: bool = False
    watched: bool = False

    @property
    def stateful(self) -> bool:
        return self.state_input is not None

    @property
    def crowded(self) -> bool:
        return (self.state_output is not None
                and self.streams * self.state_output.elements > self.work)

    @property
    def id_bits(self) -> int:
        return (self.streams - 1).bit_length()

    @property
    def breakable(self) -> bool:
        return (self.input.beats > 1 or self.streams < 1 << self.id_bits
                or self.longest is not None or self.stateful)

    @property
    def settling(self) -> int:
        return 3 * self.layers + 2

    @classmethod
    def load(cls, directory: Path) -> "Manifest":
        """Read the manifest of a design's folder.

        Raises
        ------
        ManifestError
            If there is none, it lacks something, or what it says cannot be.
        """
        path = directory / MANIFEST
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ManifestError(f"{directory} has no {MANIFEST}: it must be a folder that "
                                f"gatefold build has written") from error
        except OSError as error:
            raise ManifestError(f"{path}: the file cannot be read: {error.strerror}") from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ManifestError(f"{path} is not JSON: {error}") from error
        try:
            manifest = cls._from_json(directory, data)
        except KeyError as error:
            raise ManifestError(f"{path} is not a design's manifest: it has no {error}") from error
        except (TypeError, AttributeError) as error:
            raise ManifestError(f"{path} is not a design's manifest: what it says has another "
                                f"shape") from error
        if not manifest.verilog.is_file():
            raise ManifestError(f"{directory} has no {manifest.verilog.name}, which its manifest "
                                f"names")
        return manifest

    @classmethod
    def _from_json(cls, directory: Path, data: dict[str, Any]) -> "Manifest":
        def text(part: dict[str, Any], key: str) -> str:
            value = part[key]
            if not isinstance(value, str) or not value:
                raise ManifestError(f"{directory / MANIFEST}: {key} must be a name, not {value!r}")
            return value

        def count(part: dict[str, Any], key: str, least: int = 1) -> int:
            value = part[key]
            if type(value) is not int or value < least:
                raise ManifestError(f"{directory / MANIFEST}: {key} must be an integer from "
                                    f"{least} on, not {value!r}")
            return value

        def stream(name: str) -> Stream:
            part = data[name]
            return Stream(prefix=text(part, "prefix"), elements=count(part, "elements"),
                          lanes=count(part, "lanes"), bytes=count(part, "bytes"))

        def states(name: str) -> StateStream | None:
            # Designs without states say nothing of them.
            part = data.get(name)
            if part is None:
                return None
            tensors = [(text(tensor, "name"), count(tensor, "elements"))
                       for tensor in part["tensors"]]
            found = StateStream(prefix=text(part, "prefix"), elements=count(part, "elements"),
                                lanes=count(part, "lanes"), bytes=count(part, "bytes"),
                                names=tuple(tensor for tensor, _ in tensors))
            if found.elements != sum(elements for _, elements in tensors):
                raise ManifestError(f"{directory / MANIFEST}: elements of {name} must be those of "
                                    f"its tensors together, not {found.elements}")
            return found

        def follows(probe: dict[str, Any]) -> str | None:
            if streams > 1 or probe["direction"] is not None:
                return text(probe, "stream")
            if probe["stream"] is not None:
                raise ManifestError(f"{directory / MANIFEST}: stream of a probe must be null in a "
                                    f"design of one stream, not {probe['stream']!r}")
            return None

        family = data["family"]
        if family is not None and family not in FAMILIES:
            raise ManifestError(f"{directory / MANIFEST}: family must be {', '.join(FAMILIES)} or "
                                f"null, not {family!r}")
        streams = count(data, "streams")
        step, alone, work, further = (count(data["cycles"], key)
                                      for key in ("step", "alone", "work", "further"))
        if alone > step or (streams == 1 and alone != step):
            raise ManifestError(f"{directory / MANIFEST}: cycles alone must be "
                                f"{'at most ' if streams > 1 else ''}those of a step, {step}, not "
                                f"{alone}")
        every_step = data["output"]["every_step"]
        if not isinstance(every_step, bool):
            raise ManifestError(f"{directory / MANIFEST}: every_step must be true or false, not "
                                f"{every_step!r}")
        return cls(
            name=text(data, "name"),
            verilog=directory / text(data, "verilog"),
            family=family,
            clock=text(data, "clock"),
            reset=text(data, "reset"),
            streams=streams,
            input=stream("input"),
            output=stream("output"),
            every_step=every_step,
            saturation=tuple(map(str, data["saturation"])),
            probes=tuple(
                Probe(name=f"lstm{count(part, 'layer', 0)}.{text(part, 'tensor')}",
                      layer=part["layer"], tensor=part["tensor"], units=count(part, "units"),
                      lanes=count(part, "lanes"), width=count(part, "width"),
                      valid=text(part, "valid"), data=text(part, "data"),
                      stream=follows(part),
                      direction=None if part["direction"] is None else count(part, "direction", 0))
                for part in data["probes"]),
            layers=len({part["layer"] for part in data["probes"]}),
            step=step,
            alone=alone,
            work=work,
            further=further,
            longest=None if data["longest"] is None else count(data, "longest"),
            # Earlier versions did not say it.
            held=None if data.get("held") is None else count(data, "held"),
            state_input=states("state_input"),
            state_output=states("state_output"),
            models=block_models(family) if family else (),
        )
