"""`embedq …` and `python -m embedq …`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

NAME: Final = "embedq"
COMPLETE: Final = "_EMBEDQ_COMPLETE"
INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code (see `operations/crash.py`)."""
    try:
        from .cli.voice import complain
        from .operations import crash
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    crash.run(lambda: command_line(arguments), complain)


def command_line(arguments: Sequence[str] | None = None) -> object:
    """Run the command without click's `main`, which exits with 1 when the reader of the output is gone, as if the command had failed."""
    from click.shell_completion import shell_complete

    from .cli import embedq

    if instruction := os.environ.get(COMPLETE):
        return shell_complete(embedq, {}, NAME, COMPLETE, instruction)
    with embedq.make_context(NAME, [*(sys.argv[1:] if arguments is None else arguments)]) as context:
        embedq.invoke(context)
    return None


if __name__ == "__main__":
    main()
