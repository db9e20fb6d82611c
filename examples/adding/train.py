"""Train the adding-problem LSTM with PyTorch and export it to model.onnx.

    python examples/adding/train.py

needs torch and onnx besides NumPy.  Every batch is drawn afresh, sequences grow from 20 steps to
the full 100 .. 110, and the result is judged on 2,560 sequences of a seed that training never
uses.  The run is deterministic: one thread, fixed seeds, printed.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from task import LENGTH, TEST_COUNT, TEST_SEED, correct, sequences
from torch import nn

__all__ = ["AddingNet", "evaluate", "export", "train"]

HIDDEN = 20
BATCH = 128
CURRICULUM = ((20, 1500), (40, 1500), (70, 1500))
"""Lengths T and the steps spent on each, before the full length."""
FULL_STEPS = 24000
PEAK_RATE = 5e-3
LAST_RATE = 1e-5
CLIP = 1.0
STREAM = 104_729
"""Every training batch has the seed [STREAM, seed, step], which no plain integer seed equals."""
VALIDATION_SEED = 77


class AddingNet(nn.Module):
    """One LSTM layer and a dense layer on its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 1)
        with torch.no_grad():
            # A forget gate open from the start carries gradients over long lags (Gers,
            # Schmidhuber and Cummins, "Learning to Forget", Neural Computation 12(10), 2000).
            bias = dict(self.lstm.named_parameters())["bias_ih_l0"]
            bias[HIDDEN : 2 * HIDDEN] = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x [batch, time, 2] to y [batch, 1], all sequences being `time` long."""
        out, _ = self.lstm(x)
        last: torch.Tensor = self.head(out[:, -1])
        return last

    def at(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Map padded x [batch, time, 2] to y [batch, 1] at each sequence's own last step."""
        out, _ = self.lstm(x)
        last: torch.Tensor = self.head(out[torch.arange(len(x)), lengths - 1])
        return last


def batch(
    count: int, seed: int | list[int], length: int = LENGTH
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sequences of the task as tensors: x and y float32, lengths int64."""
    x, lengths, y = sequences(count, seed, length)
    return torch.from_numpy(x).float(), torch.from_numpy(lengths), torch.from_numpy(y).float()


def evaluate(net: AddingNet, count: int, seed: int) -> tuple[float, float, float]:
    """Mean squared error, largest absolute error and share correct on fresh sequences."""
    x, lengths, y = batch(count, seed)
    with torch.no_grad():
        out = net.at(x, lengths)
    error = (out - y).double()
    return float((error**2).mean()), float(error.abs().max()), correct(out.numpy(), y.numpy())


def train(seed: int) -> AddingNet:
    """Train one network.

    Parameters
    ----------
    seed : int
        Seed of the initial weights and, with the step, of every batch.

    Returns
    -------
    AddingNet
        The trained network.
    """
    torch.manual_seed(seed)
    net = AddingNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=PEAK_RATE)
    plan = [length for length, steps in CURRICULUM for _ in range(steps)]
    warm = len(plan)
    plan += [LENGTH] * FULL_STEPS
    began = time.perf_counter()
    for step, length in enumerate(plan):
        done = max(0, step - warm) / FULL_STEPS
        rate = LAST_RATE + (PEAK_RATE - LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, lengths, y = batch(BATCH, [STREAM, seed, step], length)
        loss = ((net.at(x, lengths) - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimizer.step()
        if (step + 1) % 500 == 0:
            mse, worst, share = evaluate(net, 512, VALIDATION_SEED)
            print(
                f"step {step + 1:6d}  T {length:3d}  rate {rate:.1e}  loss {loss.item():.2e}  "
                f"validation mse {mse:.2e}  max {worst:.4f}  correct {100 * share:.2f} %  "
                f"{time.perf_counter() - began:.0f} s",
                flush=True,
            )
    return net


def export(net: AddingNet, path: Path) -> None:
    """Write the network as one self-contained ONNX file with free batch and time axes."""
    net.eval()
    torch.onnx.export(
        net,
        (torch.zeros(1, LENGTH, 2),),
        str(path),
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "batch", 1: "time"}, "y": {0: "batch"}},
    )


def main() -> None:
    """Train, print the test result, and export."""
    parser = argparse.ArgumentParser(description="Train the adding-problem LSTM.")
    parser.add_argument("--seed", type=int, default=1, help="training seed (%(default)s)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(__file__).with_name("model.onnx"),
        help="the ONNX file to write (%(default)s)",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    print(f"training seed {args.seed}, validation seed {VALIDATION_SEED}, test seed {TEST_SEED}")
    net = train(args.seed)
    mse, worst, share = evaluate(net, TEST_COUNT, TEST_SEED)
    print(
        f"test: {TEST_COUNT} sequences, mse {mse:.3e}, max |error| {worst:.5f}, "
        f"correct {100 * share:.2f} %"
    )
    largest = max(float(np.abs(p.detach().numpy()).max()) for p in net.parameters())
    print(f"largest |weight or bias| {largest:.3f}")
    export(net, args.output)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
