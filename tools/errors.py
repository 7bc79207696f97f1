"""The one exception of the tools, and how a command line reports it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps


class ToolError(Exception):
    """Something that the person who called can put right; the message says what is wrong and what to do."""


def reported(main: Callable[[list[str]], int]) -> Callable[[list[str]], int]:
    """A command line that prints why it could not do its work, and then returns 2."""

    @wraps(main)
    def command(arguments: list[str]) -> int:
        try:
            return main(arguments)
        except (ToolError, OSError) as error:
            print(error, file=sys.stderr)
            return 2

    return command
