"""Read a trained LSTM network from a Keras file.

The files are those of Keras 3 (``.keras`` archives), the HDF5 models of Keras 2, tf.keras and
Keras 3 (``.h5``), and files of weights alone (``.weights.h5``), as far as their names and shapes
tell the structure.  Keras itself is not needed.  What is not understood, and matters to the output,
is refused: a `ModelError` names the file, the layer and the value in one sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from golden.keras_chain import network_of
from golden.keras_config import Item
from golden.keras_graph import chain_of
from golden.keras_layers import ArchiveWeights, Functions, LegacyWeights
from golden.keras_store import MAX_FILE, MAX_JSON, Archive, Store, parse_json, read_file
from golden.keras_weights import weights_only
from golden.model import ModelError, TrainedModel, reading

__all__ = ["load"]

ZIP, HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
"""What the files begin with."""


def load(
    path: str | Path,
    *,
    every_step: bool | None = None,
    activations: Sequence[str] | None = None,
) -> TrainedModel:
    """Read a network from a Keras file.

    Parameters
    ----------
    path : str or Path
        A whole model, ``.keras`` or ``.h5``, or weights alone, ``.weights.h5``.
    every_step : bool, optional
        For weights alone: whether the last LSTM layer has ``return_sequences=True``.
    activations : sequence of str, optional
        For weights alone: the activations of the dense layers, by their Keras names, one each.

    Returns
    -------
    TrainedModel
        The float model, weights as stored, in float64.

    Raises
    ------
    ModelError
        If the file cannot be read, or is not such a network, or something is given that the file
        says itself.
    """
    with reading(path):
        data = read_file(Path(path))
        if data.startswith(ZIP):
            load_as = _archive
        elif data.startswith(HDF5):
            load_as = _hdf5
        else:
            raise ModelError("neither a .keras archive nor an HDF5 file")
        return load_as(data, every_step, activations)


def _whole(every_step: bool | None, activations: Sequence[str] | None) -> None:
    """Refuse what only a file of weights needs."""
    for name, value in (("every_step", every_step), ("activations", activations)):
        if value is not None:
            raise ModelError(f"'{name}' must not be given: this file of a whole model says it")


def _archive(
    data: bytes, every_step: bool | None, activations: Sequence[str] | None
) -> TrainedModel:
    """A ``.keras`` archive."""
    _whole(every_step, activations)
    archive = Archive(data)
    description = parse_json("'config.json'", archive.read("config.json", MAX_JSON))
    metadata = parse_json("'metadata.json'", archive.read("metadata.json", MAX_JSON))
    version = metadata.get("keras_version")
    version = version if isinstance(version, str) else None
    chain = chain_of(description)
    store = Store(archive.read("model.weights.h5", MAX_FILE))

    def weights(item: Item) -> ArchiveWeights:
        return ArchiveWeights(store, item.place)

    functions = Functions.of_version(version)
    network = network_of(chain, weights, functions)
    notes = tuple(dict.fromkeys(functions.notes))
    return TrainedModel(network=network, source=f"Keras {version or '?'}, .keras archive",
                        notes=notes)


def _hdf5(data: bytes, every_step: bool | None, activations: Sequence[str] | None) -> TrainedModel:
    """A model in HDF5, or weights alone."""
    store = Store(data)
    text = store.text("", "model_config")
    if text is None:
        return weights_only(store, every_step, activations)
    _whole(every_step, activations)
    chain = chain_of(parse_json("attribute 'model_config'", text))
    version = store.text("", "keras_version") or store.text("model_weights", "keras_version")

    def weights(item: Item) -> LegacyWeights:
        return LegacyWeights(store, f"model_weights/{item.name}")

    functions = Functions.of_version(version)
    network = network_of(chain, weights, functions)
    notes = tuple(dict.fromkeys(functions.notes))
    return TrainedModel(network=network, source=f"Keras {version or '?'}, HDF5 model", notes=notes)
