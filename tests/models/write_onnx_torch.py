"""Write the models of PyTorch in `onnx/`, by both of its exporters, and what PyTorch computes.

``python -m tests.models.write_onnx_torch``, from the folder of the repository, needs the `train`
extra.  Of each model there are ``NAME.onnx`` and ``NAME.npz``, with an input x, as the model takes
it, its outputs y0, y1 .., and, where they are needed, the lengths of its sequences and whether
time_first; of one that is refused the file only.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.test_onnx_torch import LSTMS, H, N, O, T, build, export

FOLDER = Path(__file__).parent / "onnx"
MODELS = (
    ("plain", "last", False, True),
    ("two", "every", True, True),
    ("both", "h_n", False, True),
    ("both-two", "states", True, True),
    ("no-bias", "mlp", False, True),
    ("dropout", "softmax", True, True),
    ("both", "norm", False, True),
    ("plain", "norm-before", True, True),
    ("both-two", "every", False, False),
    ("plain", "argmax", True, True),
    ("two", "scaled", False, False),
    ("both-two", "h_n", True, False),
)
"""The LSTM, what is behind it, whether the exporter is the newer one, whether batch is first."""


class Packed(nn.Module):
    """Sequences of several lengths, two directions, two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(N, H, 2, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(2 * H, O)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        given = pack_padded_sequence(x, lengths, batch_first=True)
        out, (h, _) = self.lstm(given)
        padded, _ = pad_packed_sequence(out, batch_first=True)
        return self.dense(padded), h


def _bare(path: Path) -> None:
    """Without what the exporters tell of the source code."""
    model = onnx.load(path)
    del model.metadata_props[:]
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input,
                 *model.graph.output, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    del model.graph.value_info[:]
    path.write_bytes(model.SerializeToString())


def _save(name: str, x: Tensor, given: Tensor | tuple[Tensor, ...], **others: Any) -> None:
    outputs = given if isinstance(given, tuple) else (given,)
    arrays: dict[str, Any] = {f"y{k}": output.numpy() for k, output in enumerate(outputs)}
    np.savez_compressed(FOLDER / f"{name}.npz", x=x.numpy(), **others, **arrays)


def main() -> None:
    """Write all models."""
    FOLDER.mkdir(exist_ok=True)
    for seed, (kind, head, dynamo, batch_first) in enumerate(MODELS):
        torch.manual_seed(seed)
        net = build(torch, LSTMS[kind], head, batch_first)
        name = f"torch-{kind}-{head}-{'dynamo' if dynamo else 'script'}"
        _bare(export(torch, net, FOLDER / f"{name}.onnx", dynamo, batch_first))
        x = torch.randn(*((3, T) if batch_first else (T, 3)), N)
        with torch.no_grad():
            _save(name, x, net(x), **({} if batch_first else {"time_first": np.array(True)}))
    torch.manual_seed(100)
    net = build(torch, {"proj_size": 4}, "last", True)
    net.dense = nn.Linear(4, O)
    _bare(export(torch, net, FOLDER / "torch-refused-projection-dynamo.onnx", True, True))
    packed = Packed().eval()
    x, lengths = torch.randn(3, T, N), torch.tensor([T, 4, 2])
    path = FOLDER / "torch-packed-script.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            packed, (x, lengths), str(path), dynamo=False, input_names=["x", "lengths"],
            output_names=["y", "h"], dynamic_axes={"x": {0: "b", 1: "t"}, "lengths": {0: "b"}},
        )
    _bare(path)
    with torch.no_grad():
        _save("torch-packed-script", x, packed(x, lengths), lengths=lengths.numpy())


if __name__ == "__main__":
    main()
