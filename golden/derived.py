"""Fields of a frozen dataclass that follow from the others where they are not given."""

from typing import Any

__all__ = ["DERIVED", "settle"]

DERIVED: Any = None
"""The default of such a field, whose type is that of what ``__post_init__`` gives it."""


def settle(instance: Any, **values: Any) -> None:
    """Give each of the fields its value, where it has none yet."""
    for name, value in values.items():
        if getattr(instance, name) is DERIVED:
            object.__setattr__(instance, name, value)
