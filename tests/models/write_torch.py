"""Write the files in `torch/`: small models of PyTorch, and what PyTorch says they compute.

``python tests/models/write_torch.py`` needs the `train` extra.  Of each model there are the
state_dict, ``NAME.safetensors``, and ``NAME.npz`` with an input x, shape (B, T, N), the lengths of
its sequences, and PyTorch's output y.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

FOLDER = Path(__file__).parent / "torch"
LENGTHS = [6, 3, 5]
STEPS = max(LENGTHS)


def packed(lstm: nn.LSTM, x: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs and h_n of sequences of LENGTHS; beyond their ends the outputs are zero."""
    out, (h, _) = lstm(pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False))
    return pad_packed_sequence(out, batch_first=True)[0], h


class Plain(nn.Module):
    """One layer, a Linear layer on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.fc = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(packed(self.lstm, x)[1][-1])


class Projected(nn.Module):
    """Two bidirectional layers with projections and no biases; the final states."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 4, 2, bias=False, batch_first=True, bidirectional=True, proj_size=3)

    def forward(self, x: Tensor) -> Tensor:
        h = packed(self.rnn, x)[1]
        return torch.cat((h[-2], h[-1]), dim=1)


class Stacked(nn.Module):
    """Two LSTM modules, norms before, between and behind, and two Linear layers at every step.

    Their names are not in the order in which they run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.BatchNorm1d(3, affine=False)
        self.first = nn.LSTM(3, 4, 2, batch_first=True, dropout=0.3)
        self.between = nn.BatchNorm1d(4)
        self.again = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(6, 5)
        self.behind = nn.BatchNorm1d(5)
        self.classes = nn.Linear(5, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        def norm(module: nn.Module, values: Tensor) -> Tensor:
            return module(values.transpose(1, 2)).transpose(1, 2)

        h = packed(self.first, norm(self.scale, x))[0]
        h = packed(self.again, norm(self.between, h))[0]
        h = torch.relu(norm(self.behind, self.dense(h)))
        y = torch.softmax(self.classes(h), dim=-1)
        return y * (torch.arange(STEPS) < torch.tensor(LENGTHS)[:, None])[:, :, None]


class Cells(nn.Module):
    """Two LSTMCell modules in a loop, and a Linear layer on the state at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.LSTMCell(3, 4), nn.LSTMCell(4, 4, bias=False)])
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        results = []
        for sequence, length in zip(x, LENGTHS, strict=True):
            states = [(torch.zeros(4), torch.zeros(4)) for _ in self.cells]
            for h in sequence[:length]:
                for k, cell in enumerate(self.cells):
                    states[k] = cell(h, states[k])
                    h = states[k][0]
            results.append(self.out(h))
        return torch.stack(results)


MODELS: dict[str, tuple[Callable[[], nn.Module], torch.dtype]] = {
    "plain": (Plain, torch.float32),
    "plain_bfloat16": (Plain, torch.bfloat16),
    "plain_float16": (Plain, torch.float16),
    "projected": (Projected, torch.float64),
    "stacked": (Stacked, torch.float32),
    "cells": (Cells, torch.float32),
}


def write(name: str, build: Callable[[], nn.Module], kind: torch.dtype) -> None:
    """Write one model; PyTorch computes in float64, with the weights that the file has."""
    net = build().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            for parameter in module.parameters():
                nn.init.uniform_(parameter, 0.5, 1.5)
        for buffer_name, buffer in module.named_buffers(recurse=False):
            if buffer_name == "running_mean":
                nn.init.uniform_(buffer, -1.0, 1.0)
            elif buffer_name == "running_var":
                nn.init.uniform_(buffer, 0.5, 2.0)
    net = net.to(kind)
    save_file(net.state_dict(), FOLDER / f"{name}.safetensors")
    net = net.double()
    inputs = next(p.shape[1] for k, p in net.named_parameters() if "weight_ih" in k)
    x = torch.randn(len(LENGTHS), STEPS, inputs, dtype=torch.float64)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.no_grad():
        y = net(x)
    torch.set_default_dtype(default)
    np.savez(FOLDER / f"{name}.npz", x=x.numpy(), lengths=np.array(LENGTHS), y=y.numpy())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for seed, (name, (build, kind)) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        write(name, build, kind)
