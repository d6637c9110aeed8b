"""Options of a command that the registered update rules bring with them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from mnpo.options import Option

#: Options of rules that a command has of its own, since games have them too.
COMMON = ("eta", "tau", "players")

_GIVEN = "mnpo.rule-options"


class RuleCommand(TyperCommand):
    """A command that takes the options of every registered rule besides its own.

    They are read from the rules only when the command itself is run or asked for help: the rules need numpy, and
    the help of all other commands starts without it.
    """

    @cached_property
    def rule_params(self) -> list[Any]:
        """The parameters that come from the rules."""
        return _params()

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the command's parameters, those of the rules before `--help`."""
        *own, last = super().get_params(ctx)
        return [*own, *self.rule_params, last]

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what was given to the rules' options waits for `given_options`."""
        ctx.meta[_GIVEN] = {param.name: ctx.params.pop(param.name) for param in self.rule_params}
        return super().invoke(ctx)


def given_options(context: typer.Context, rule: str) -> dict[str, Any]:
    """Return the options of rules that were given to a `RuleCommand`, as what the rule takes.

    Raises:
        ValueError: an unknown rule, an option that it does not take, or a bad value.
    """
    from mnpo.choices import choose
    from mnpo.presets import RULES

    preset = choose(rule, RULES, "rule")
    given: Mapping[str, str | None] = context.meta[_GIVEN]
    return {name: preset.read(name, text, _flag(name)) for name, text in given.items() if text is not None}


def resolved_options(rule: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a rule that no command has of its own: as given, or their defaults."""
    from mnpo.presets import RULES

    options = RULES[rule].options.items()
    return {name: given.get(name, option.default) for name, option in options if name not in COMMON}


def _params() -> list[Any]:
    """Have Typer make parameters as it would of a function with these."""
    from mnpo.presets import RULES

    found: dict[str, dict[str, Option]] = {}
    for preset in RULES.values():
        for name, option in preset.options.items():
            if name not in COMMON:
                found.setdefault(name, {})[preset.name] = option
    parameters = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(name, by_rule)
        )
        for name, by_rule in found.items()
    ]

    def takes_them(**options: Any) -> None: ...

    stand_in: Any = takes_them
    stand_in.__signature__ = inspect.Signature(parameters)
    stand_in.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False)
    app.command()(stand_in)
    return list(typer.main.get_command(app).params)


def _annotation(name: str, by_rule: Mapping[str, Option]) -> Any:
    """Return how Typer is told of an option: read as text, since the rule says what it takes."""
    from mnpo.cli.escaping import escape

    options = list(by_rule.values())
    choices = dict.fromkeys(choice for option in options for choice in option.choices)
    kind = "|".join(choices) or options[0].kind.__name__ + (",.." if options[0].many else "")
    defaults = "; ".join(dict.fromkeys(option.default_text for option in options if option.default_text))
    return Annotated[
        str | None,
        typer.Option(
            _flag(name),
            help=escape("; ".join(f"{rule}: {option.help}" for rule, option in by_rule.items())) + ".",
            metavar=f"<{kind}>",
            show_default=defaults or False,
            rich_help_panel="Options of rules",
        ),
    ]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
