"""The command `mnpo`: the application, and what happens when something goes wrong."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from mnpo import __version__
from mnpo.cli.sim import app as sim_app

app = typer.Typer(
    name="mnpo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(sim_app, name="sim")


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
    """Multiplayer Nash Preference Optimization: exact preference games, solved and verified.

    Start here: [bold]mnpo sim[/bold] runs the default study in seconds, without data or network.
    """


def main() -> None:
    """Run the command line: one red line and exit status 2 for bad input, 1 for a computation that failed."""
    if "--debug" in sys.argv:
        sys.exit(app(standalone_mode=False) or 0)
    try:
        status = app(standalone_mode=False)
    except TyperException as error:
        _fail(error.format_message(), 2)
    except typer.Abort:
        _fail("interrupted", 130)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except (ValueError, OSError) as error:
        _fail(_one_line(error), 2)
    except RuntimeError as error:
        _fail(_one_line(error), 1)
    except MemoryError:
        _fail("out of memory", 1)
    sys.exit(status if isinstance(status, int) else 0)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def _fail(message: str, status: int) -> None:
    typer.secho(f"mnpo: {message}", fg=typer.colors.RED, err=True)
    sys.exit(status)
