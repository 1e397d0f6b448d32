"""The front door: `encore …`, one command line over the three packages."""

from __future__ import annotations

import errno
import os
import sys
from typing import NoReturn

import typer

from features import commands as features_commands
from features.errors import EncoreError, NotWritten
from features.exit_codes import INFRASTRUCTURE, exit_code
from features.logs import console, log, set_up_logs
from serving import commands as serving_commands
from training import commands as training_commands

app = typer.Typer(
    name="encore",
    help="Predictions for a shop: events in, behaviour vectors, models with evidence, scores in milliseconds.",
    epilog="Exit codes: 0 done or nothing to do, 2 usage, 3 refused by the gate, 4 locked, 5 infrastructure, 6 no usable data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
features_commands.mount(app)
training_commands.mount(app)
serving_commands.mount(app)


def main() -> None:
    """Run a command and turn domain errors into one message and one exit code."""
    set_up_logs()
    try:
        app(prog_name="encore")
    except EncoreError as error:
        _end(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            _tell(error)
            raise
        _end(NotWritten(error))
    except Exception as error:
        _tell(error)
        raise


def _tell(error: Exception) -> None:
    """Let other systems know that a run failed, where ENCORE_EVENTS_URL says that one listens."""
    if os.environ.get("ENCORE_EVENTS_URL"):
        from serving.destinations.announce import note_failure

        note_failure(sys.argv[1:], error)


def _end(error: EncoreError) -> NoReturn:
    """Say what went wrong and end with its exit code."""
    if console.is_terminal:
        console.print(str(error), style="red", markup=False, highlight=False)
    else:
        log.error(str(error), extra={"facts": {"kind": type(error).__name__}})
    _tell(error)
    code = exit_code(error)
    if code == INFRASTRUCTURE:  # no tear-down: it waits for threads of libraries that may hang on a dead server
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
