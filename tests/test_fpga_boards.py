"""The boards' data."""

import pytest

from fpga.boards import BOARDS, BoardError, find


def test_unknown_board_lists_the_known() -> None:
    with pytest.raises(BoardError, match=r"^unknown board 'ulx4m'; known boards: "
                                         r"icebreaker, ulx3s-85f$"):
        find("ulx4m")


def test_ulx3s() -> None:
    board = find("ulx3s-85f")
    assert board.device == "LFE5U-85F-6BG381"
    assert board.clock_hz == 25e6
    assert [resource.available for resource in board.resources] == [83640, 83640, 156, 208]
    assert (board.family, board.bitstream) == ("ecp5", ".bit")


def test_icebreaker() -> None:
    board = find("icebreaker")
    assert board.device == "iCE40UP5K-SG48"
    assert board.clock_hz == 12e6
    assert [resource.available for resource in board.resources] == [5280, 5280, 8, 30]
    assert (board.family, board.bitstream) == ("ice40", ".bin")


def test_every_flip_flop_of_an_ice40_is_counted() -> None:
    """Yosys names them by edge, enable and reset."""
    cells = {"SB_DFF": 1, "SB_DFFE": 2, "SB_DFFSR": 3, "SB_DFFESS": 4, "SB_DFFNER": 5,
             "SB_LUT4": 100}
    assert find("icebreaker").ff.needed(cells) == 15
    assert len(find("icebreaker").ff.synthesized) == 20


@pytest.mark.parametrize("name", BOARDS)
def test_resources_exist_on_the_platform(name: str) -> None:
    board = BOARDS[name]
    platform = board.prepare()
    assert platform.lookup(*board.button)
    for number in range(board.leds):
        assert platform.lookup("led", number)


def test_clock_constraint_stays_with_its_platform() -> None:
    board = find("ulx3s-85f")
    assert board.prepare(clock_hz=123e6).default_clk_frequency == 123e6
    assert board.prepare().default_clk_frequency == 25e6


@pytest.mark.parametrize(("depth", "width", "blocks"), [
    (512, 36, 1), (513, 36, 2), (512, 37, 2), (1024, 18, 1), (1680, 33, 4), (2048, 9, 1),
    (16384, 1, 1), (16385, 1, 2), (1, 73, 3),
])
def test_memory_blocks(depth: int, width: int, blocks: int) -> None:
    assert find("ulx3s-85f").memory_blocks(depth=depth, width=width) == blocks


@pytest.mark.parametrize(("depth", "width", "blocks"), [
    (256, 16, 1), (256, 17, 2), (257, 8, 1), (2048, 2, 1), (2049, 2, 2)])
def test_memory_blocks_of_an_ice40(depth: int, width: int, blocks: int) -> None:
    assert find("icebreaker").memory_blocks(depth=depth, width=width) == blocks
