"""Measure a network on the test sequences: the figures in README.md.

    python examples/adding/check.py [MODEL.onnx]

The number formats are chosen on sequences of a seed of their own; the test sequences choose
nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from task import TEST_COUNT, TEST_SEED, TOLERANCE, correct, sequences

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from golden.calibrate import quantize
from golden.model import ModelError, Network
from golden.onnx_file import load

__all__ = ["check"]

CALIBRATION_COUNT, CALIBRATION_SEED = 256, 1
MORE_SEEDS = range(5000, 5020)
WIDTHS = (16, 12)


def _errors(outputs: np.ndarray, targets: np.ndarray) -> str:
    error = np.abs(outputs - targets)
    return (f"correct {100 * correct(outputs, targets):.2f} %, mean squared error "
            f"{np.mean(error**2):.2e}, largest {error.max():.4f}")


def check(network: Network) -> None:
    """Print what a network of the adding problem does in float64 and in fixed point."""
    x, lengths, y = sequences(TEST_COUNT, TEST_SEED)
    print(f"{TEST_COUNT} sequences of the test seed {TEST_SEED}; correct: an error below "
          f"{TOLERANCE:g}")
    trace = network.trace(x, lengths)
    print(f"float64: {_errors(trace.y, y)}")
    layer, seen = network.directions[0], trace.directions[0]
    z = np.abs(seen.z[trace.valid])
    candidate = slice(2 * layer.hidden, 3 * layer.hidden)
    weights = max(np.abs(each).max() for each in (layer.w_x, layer.w_h, layer.bias))
    print(f"  largest preactivation {z.max():.2f} (of the candidate: {z[:, candidate].max():.2f}), "
          f"cell state {np.abs(seen.c[trace.valid]).max():.2f}, weight or bias {weights:.2f}")

    data, steps, _ = sequences(CALIBRATION_COUNT, CALIBRATION_SEED)
    for bits in WIDTHS:
        result = quantize(network, data, steps, bits=bits).run_real(x, lengths)
        difference = result.real - trace.y
        print(f"{bits} bits: {_errors(result.real, y)}")
        print(f"  against float64: mean squared difference {np.mean(difference**2):.2e}, "
              f"largest {np.abs(difference).max():.4f}, "
              f"{sum(result.saturated.values())} saturations")

    outputs, targets = [], []
    for seed in MORE_SEEDS:
        x, lengths, y = sequences(TEST_COUNT, seed)
        outputs.append(network.run(x, lengths))
        targets.append(y)
    print(f"seeds {MORE_SEEDS[0]} to {MORE_SEEDS[-1]}, float64: "
          f"{_errors(np.concatenate(outputs), np.concatenate(targets))}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a network of the adding problem.")
    parser.add_argument("model", type=Path, nargs="?",
                        default=Path(__file__).with_name("model.onnx"),
                        help="the ONNX file (%(default)s)")
    try:
        check(load(parser.parse_args().model).network)
    except (ModelError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
