"""The benchmark of the simulation's speed; no simulator runs."""

import re

from benchmarks.activation_tables import fill
from benchmarks.simulation_speed import BEGIN, COLUMNS, END, PAGE, TESTS, table
from sim.verify import TESTS as OF_THE_BENCH


def test_table() -> None:
    speeds = {test: [100.0, 299.6, 250.0] for test in TESTS}
    speeds["full_speed"] = [280.0, 310.4, 290.0]
    rows = table(speeds)
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert rows[0][2:] == ["310", "290", "300, met"]
    assert rows[3][2:] == ["300", "250", "60, met"]
    speeds["axi_random_stalls"] = [59.9, 40.0, 50.0]
    assert table(speeds)[3][2:] == ["60", "50", "60, MISSED"]
    assert table(speeds)[1][4] == ""


def test_tests_are_those_of_the_bench() -> None:
    assert set(TESTS) < set(OF_THE_BENCH)


def test_page_has_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert "\nsome text\n" in fill(page, "some text", first=BEGIN, last=END)
    written = page.partition(BEGIN)[2].partition(END)[0]
    assert len(re.findall(r"^\| (our own|cocotbext-axi)", written, re.MULTILINE)) == len(TESTS)
