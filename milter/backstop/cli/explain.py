"""The command `explain`."""

import argparse
from typing import Any


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command's own."""
