"""The command `mnpo`: the application, and what happens when something goes wrong."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from mnpo import __version__
from mnpo.cli.crosscheck import crosscheck
from mnpo.cli.llm import app as llm_app
from mnpo.cli.sim import app as sim_app
from mnpo.common.style import printable

#: Characters of the line that says what went wrong.
LONGEST = 1000

app = typer.Typer(
    name="mnpo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(sim_app, name="sim")
app.add_typer(llm_app, name="llm")
app.command()(crosscheck)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Multiplayer Nash Preference Optimization: preference games, solved exactly; language models, trained on them.

    Start here: [bold]mnpo sim[/bold] runs the default study in seconds, without data or network.
    With the extra mnpo\\[llm], [bold]mnpo llm train[/bold] trains a small language model by the same update rules
    in a minute, and [bold]mnpo crosscheck[/bold] checks that table and network make the same updates.
    """


def main() -> None:
    """Run the command line: one red line and exit status 2 for bad input, 1 for a computation that failed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what it cannot show must not cost a result
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    if "--debug" in sys.argv:
        sys.exit(app(standalone_mode=False) or 0)
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        _fail(_one_line(ValueError(error.format_message())), 2)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except SystemExit as stop:
        # Ways in which the application stops by itself: Ctrl-C, and a reader of our output that went away.
        if stop.code == 130:
            _fail("interrupted", 130)
        if stop.code == 1:
            _close_quietly()
        raise
    except BrokenPipeError:
        _close_quietly()
    except (ValueError, OSError) as error:
        _fail(_one_line(error), 2)
    except RuntimeError as error:
        _fail(_one_line(error), 1)
    except MemoryError:
        _fail("out of memory", 1)
    except Exception as error:  # whatever was not foreseen is ours, not the user's
        told = f"{type(error).__name__}: {_one_line(error)}".rstrip(": ")
        _fail(f"this is a bug in mnpo ({told}); please report it, with what --debug prints", 1)
    sys.exit(status if isinstance(status, int) else 0)


def _stop(number: int, frame: object) -> None:
    """Leave by an exception, so that what is half written is cleared away."""
    sys.exit(128 + number)


def _close_quietly() -> None:
    """Stop as a program does whose pipe was closed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)


def _one_line(error: Exception) -> str:
    """Return what an error says in one line without effects, cut in the middle where it is long."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = printable(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 300]} .. {text[-300:]}"


def _fail(message: str, status: int) -> None:
    if message:
        typer.secho(f"mnpo: {message}", fg=typer.colors.RED, err=True)
    sys.exit(status)
