"""The device families whose blocks are instantiated."""

__all__ = ["FAMILIES"]

FAMILIES = ("ecp5", "ice40")
"""By the names of nextpnr's programs for them. Each has its models in ``sim/``."""
