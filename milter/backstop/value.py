"""How values are declared that are made for each message."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def value(cls: type[_T]) -> type[_T]:
    """A dataclass with slots that the type checker holds frozen.

    At run time it is not: one with 17 fields takes 0.9 us to make, a frozen one 2.8 us, and about twenty are
    made for each message.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
