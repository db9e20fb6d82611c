# amaranth: UnusedElaboratable=no
"""What the self-test stores, and the self-test around a real network."""

from dataclasses import replace

import numpy as np
import pytest

from fpga.boards import find
from fpga.stored import Beat, Stored, fitting, silence, store
from golden.quantized_network import QuantizedNetwork
from hdl.bus import Bus
from hdl.foldings import choose_folding
from hdl.network import Network
from tests.networks import STANDARD, random_codes, random_network
from tests.test_fpga_selftest import lights

BOARD = find("ulx3s-85f")
WIDE, NARROW = Bus(elements=2, lanes=2, bytes=2), Bus(elements=1, lanes=1, bytes=2)


@pytest.mark.parametrize(("blocks", "count"), [(2, 4), (4, 14), (5, 19), (100, 40)])
def test_sequences_fill_the_blocks(blocks: int, count: int) -> None:
    # 105 words of 33 bits each, 512 words a block; all expected words take one block more.
    assert fitting([105] * 40, [1] * 40, source=WIDE, sink=NARROW, board=BOARD,
                   blocks=blocks) == list(range(count))


def test_what_is_too_long_is_left_out() -> None:
    assert fitting([300, 600, 200, 100, 12], [1] * 5, source=WIDE, sink=NARROW, board=BOARD,
                   blocks=2) == [0, 2, 4]


def test_nothing_fits() -> None:
    with pytest.raises(ValueError, match=r"^one sequence at least must fit 2 block RAMs of "
                                         r"ulx3s-85f, but the shortest has 513 words in$"):
        fitting([513, 514], [1, 1], source=WIDE, sink=NARROW, board=BOARD, blocks=2)


@pytest.mark.parametrize("every_step", [False, True])
def test_words(every_step: bool) -> None:
    """A vector of three in two beats, the last lane empty; the longest sequence left out."""
    bus = Bus(elements=3, lanes=2, bytes=1)
    lengths = np.array([2, 60_000, 1])
    x = np.zeros((60_003, 3), dtype=np.int64)
    x[[0, 1, -1]] = [[1, -1, 3], [4, 5, 6], [7, 8, -128]]
    y = np.zeros((60_003 if every_step else 3, 1), dtype=np.int64)
    y[[0, -1]] = [[-2], [9]]
    stored = store(x, y, lengths, every_step=every_step, source=bus,
                   sink=Bus(elements=1, lanes=1, bytes=2), further=10, latency=3, board=BOARD)
    assert stored.stimulus == [
        Beat(0xff01, False), Beat(3, False), Beat(0x0504, False), Beat(6, True),
        Beat(0x0807, False), Beat(0x80, True)]
    assert stored.expected == [Beat(0xfffe, not every_step),
                               *([Beat(0, True)] if every_step else []), Beat(9, True)]
    assert stored.timeout == 2 * (2 * 10 + 3)


LENGTHS = np.array([3, 1, 6, 1])


def network(every_step: bool) -> QuantizedNetwork:
    return random_network(np.random.default_rng(3), STANDARD, 3, (4, 3), 2,
                          every_step=every_step, size=0.2)


def real(drawn: QuantizedNetwork) -> tuple[Network, Stored]:
    """A network in hardware, and what golden says of a few sequences."""
    rng = np.random.default_rng(4)
    x = random_codes(rng, drawn.x, (len(LENGTHS), int(LENGTHS.max()), drawn.inputs))
    valid = np.arange(x.shape[1]) < LENGTHS[:, None]
    y = drawn.run(x, LENGTHS).y
    core = Network(drawn, foldings=[choose_folding(layer.inputs, layer.hidden, units=2, columns=2)
                                    for layer in drawn.layers])
    return core, store(
        x[valid], y[valid] if drawn.every_step else y, LENGTHS, every_step=drawn.every_step,
        source=Bus(elements=drawn.inputs, lanes=core.in_lanes, bytes=core.in_bytes),
        sink=Bus(elements=drawn.outputs, lanes=core.out_lanes, bytes=core.out_bytes),
        further=core.further, latency=core.latency, board=BOARD)


def one_round(core: Network, stored: Stored) -> int:
    """Cycles that suffice for a round."""
    return int(LENGTHS.sum()) * core.step + core.latency + stored.timeout + 100


@pytest.mark.parametrize("every_step", [False, True])
def test_passes_with_a_real_network(every_step: bool) -> None:
    core, stored = real(network(every_step))
    _, seen = lights(core, stored.stimulus, stored.expected, 2 * one_round(core, stored),
                     stored.timeout)
    assert not any(now["failed"] or now["malformed"] for now in seen)
    assert seen[-1]["passed"]
    assert len(np.flatnonzero(np.diff([now["blink"] for now in seen]))) > 0


def test_is_never_silent_for_half_the_timeout() -> None:
    """The bound itself, without the margin, never ends a round early."""
    core, stored = real(network(False))
    _, seen = lights(core, stored.stimulus, stored.expected, 2 * one_round(core, stored),
                     silence(LENGTHS.tolist(), further=core.further, latency=core.latency) // 2)
    assert seen[-1]["passed"]
    assert not any(now["failed"] for now in seen)


def assert_fails_for_good(core: Network, stored: Stored) -> None:
    _, seen = lights(core, stored.stimulus, stored.expected, 2 * one_round(core, stored),
                     stored.timeout)
    failed = [now["failed"] for now in seen]
    assert failed.index(1) < one_round(core, stored)
    assert all(failed[failed.index(1):])
    assert not any(now["passed"] for now in seen)
    assert not seen[-1]["running"]


@pytest.mark.parametrize("word", [0, -1])
def test_catches_a_bit_of_an_expected_word(word: int) -> None:
    core, stored = real(network(False))
    expected = list(stored.expected)
    expected[word] = Beat(expected[word].data ^ 1, expected[word].last)
    assert_fails_for_good(core, replace(stored, expected=expected))


def test_catches_a_weight_of_the_hardware() -> None:
    """One weight of the head is off by one unit in its last place, the words are golden's."""
    right = network(True)
    (dense,) = right.head
    w = dense.w.copy()
    w[1, 0] += 1 if w[1, 0] < dense.formats.w.max else -1
    wrong = replace(right, head=(replace(dense, w=w),))
    core, stored = real(wrong)
    _, golden = real(right)
    assert stored.stimulus == golden.stimulus
    changed = np.flatnonzero([a != b for a, b in zip(stored.expected, golden.expected,
                                                     strict=True)])
    assert len(changed) > 0, "a planted error must show"
    assert_fails_for_good(core, golden)
