"""What the bench knows of a design: the manifest beside its Verilog."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["MANIFEST", "Manifest", "ManifestError", "Probe", "Stream", "signed"]

MANIFEST = "manifest.json"
"""The manifest's name in the folder of a design."""


class ManifestError(ValueError):
    """The folder holds no design that the bench can run."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One of the two AXI4-Streams.

    Parameters
    ----------
    prefix : str
        The ports are ``prefix`` and ``_tdata``, ``_tvalid``, ``_tready``, ``_tlast``.
    elements : int
        Elements of a vector.
    lanes : int
        Elements in a beat, the first in the lowest bytes.
    bytes : int
        Bytes of an element, sign-extended.
    """

    prefix: str
    elements: int
    lanes: int
    bytes: int

    @property
    def beats(self) -> int:
        """Beats of a vector."""
        return -(-self.elements // self.lanes)

    @property
    def width(self) -> int:
        """Bits of a beat."""
        return 8 * self.bytes * self.lanes

    def pack(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The bytes of vectors, as they travel.

        Parameters
        ----------
        codes : int64 array [V, elements]
        rng : Generator
            Fills the lanes that the last beat of a vector leaves unused: anything may stand there.

        Returns
        -------
        uint8 array [V * beats, lanes * bytes]
        """
        vectors = codes.shape[0]
        padded = rng.integers(-(1 << 8 * self.bytes - 1), 1 << 8 * self.bytes - 1,
                              size=(vectors, self.beats * self.lanes), dtype=np.int64)
        padded[:, :self.elements] = codes
        lowest = padded.astype("<i8").view(np.uint8).reshape(vectors, -1, 8)[..., :self.bytes]
        return np.ascontiguousarray(lowest).reshape(vectors * self.beats, self.lanes * self.bytes)

    def unpack(self, beats: np.ndarray) -> np.ndarray:
        """The elements of beats: uint8 [B, lanes * bytes] to int64 [B, lanes]."""
        return signed(beats.reshape(len(beats), self.lanes, self.bytes))


def signed(octets: np.ndarray) -> np.ndarray:
    """Two's complement integers of little-endian bytes, uint8 [..., n] to int64 [...]."""
    shifts = 8 * np.arange(octets.shape[-1], dtype=np.uint64)
    total = (octets.astype(np.uint64) << shifts).sum(axis=-1, dtype=np.uint64).astype(np.int64)
    spare = 64 - 8 * octets.shape[-1]
    return total << spare >> spare


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
    """

    name: str
    layer: int
    tensor: str
    units: int
    lanes: int
    width: int
    valid: str
    data: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A design as the bench sees it; see the fields' classes.

    Parameters
    ----------
    name : str
        The top module.
    verilog : Path
        The file with the top module and all below it.
    clock, reset : str
        Ports; the reset is synchronous and active high.
    input, output : Stream
    every_step : bool
        Whether there is an output for every step, or one for each sequence.
    saturation : tuple of str
        The tensors behind the bits of the port ``saturated``.
    probes : tuple of Probe
    step : int
        Cycles of a step in steady state, by the cycle model.
    """

    name: str
    verilog: Path
    clock: str
    reset: str
    input: Stream
    output: Stream
    every_step: bool
    saturation: tuple[str, ...]
    probes: tuple[Probe, ...]
    step: int

    @classmethod
    def load(cls, directory: Path) -> "Manifest":
        """Read the manifest of a design's folder.

        Raises
        ------
        ManifestError
            If there is none, or it lacks something.
        """
        path = directory / MANIFEST
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ManifestError(f"{directory} has no {MANIFEST}") from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ManifestError(f"{path} is not JSON: {error}") from error
        try:
            manifest = cls._from_json(directory, data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ManifestError(f"{path} is not a design's manifest: "
                                f"{type(error).__name__} {error}") from error
        if not manifest.verilog.is_file():
            raise ManifestError(f"{directory} has no {manifest.verilog.name}, which its manifest "
                                f"names")
        return manifest

    @classmethod
    def _from_json(cls, directory: Path, data: dict[str, Any]) -> "Manifest":
        def stream(name: str) -> Stream:
            part = data[name]
            return Stream(prefix=part["prefix"], elements=part["elements"], lanes=part["lanes"],
                          bytes=part["bytes"])

        return cls(
            name=data["name"],
            verilog=directory / data["verilog"],
            clock=data["clock"],
            reset=data["reset"],
            input=stream("input"),
            output=stream("output"),
            every_step=data["output"]["every_step"],
            saturation=tuple(data["saturation"]),
            probes=tuple(
                Probe(name=f"lstm{part['layer']}.{part['tensor']}", layer=part["layer"],
                      tensor=part["tensor"], units=part["units"], lanes=part["lanes"],
                      width=part["width"], valid=part["valid"], data=part["data"])
                for part in data["probes"]),
            step=data["cycles"]["step"],
        )
