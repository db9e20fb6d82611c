"""What all tests share: the seed of a run."""

import os
import secrets

import pytest


def pytest_configure() -> None:
    # Before other processes start, which take it from the environment.
    os.environ.setdefault("GATEFOLD_SEED", str(secrets.randbelow(1 << 31)))


def pytest_report_header() -> str:
    return f"GATEFOLD_SEED={os.environ['GATEFOLD_SEED']}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # The header is not there with -q.
    if terminalreporter.stats.get("failed"):
        terminalreporter.write_line(f"repeat by GATEFOLD_SEED={os.environ['GATEFOLD_SEED']}")
