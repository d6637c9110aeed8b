"""Fill the lists of docs/reference from the code: `make docs`, or python docs/generate.py.

Nothing about a key, a column, an objective or a record is written twice: its one line stands where it is defined.
In a page a list stands between `<!-- generated: WHAT -->` and `<!-- end -->`.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

from mnpo.llm import records as run_records
from mnpo.llm.config.keys import Section
from mnpo.llm.config.training import FIXED
from mnpo.llm.config.whole import SECTIONS
from mnpo.llm.data.schema import TABLES
from mnpo.llm.stages import records
from mnpo.objectives import OBJECTIVES

WIDTH = 118
#: Who may set a key; the default, "player", is not said.
SCOPES = {"run": "For the whole run.", "player": "", "iteration": "Set by the loop."}


def item(text: str) -> str:
    """A list item of several lines."""
    return textwrap.fill(
        "* " + text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def items(texts: Iterable[str]) -> str:
    """A list."""
    return "\n".join(item(text) for text in texts)


def keys(section: str) -> str:
    """The keys of a section of the configuration."""
    kind = SECTIONS[section]
    assert issubclass(kind, Section)
    found = []
    for field in dataclasses.fields(kind):
        known = field.metadata["key"]
        made = field.default_factory is not dataclasses.MISSING
        default = field.default_factory() if made else field.default
        said = "must be given" if default is dataclasses.MISSING else f"`{shown(default)}`"
        first = known.about[0]
        about = (first.upper() if first.isascii() else first) + known.about[1:]
        found.append(f"`{field.name}` ({said}). {about.rstrip('.')}. {SCOPES[known.scope]}".rstrip())
    return items(found)


def shown(value: object) -> str:
    """A default as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def tables() -> str:
    """The tables on disk, column by column."""
    parts: list[str] = []
    described: set[str] = set()
    last: tuple[str, set[str]] = ("", set())
    for name, columns in TABLES.items():
        parts.append(f"### `{name}/`\n")
        fresh = [column for column in columns if column.name not in described]
        again = [column.name for column in columns if column.name in described]
        if again and set(again) >= last[1]:
            parts.append(f"* The columns of `{last[0]}/`.")
            again = [column for column in again if column not in last[1]]
        if again:
            parts.append(item(f"Columns as above: {', '.join(f'`{column}`' for column in again)}."))
        last = (name, {column.name for column in columns})
        parts.append(
            items(
                f"`{c.name}`{' (optional)' * c.optional}: {c.about}. Written by {c.written}; read by {c.read}."
                for c in fresh
            )
        )
        described |= {column.name for column in columns}
        parts.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip()


def objectives() -> str:
    """The objectives with their formulas, needs and parameters."""
    found = []
    for chosen in OBJECTIVES.values():
        formula = chosen.paper if chosen.name.startswith("f-dpo") else inspect.getdoc(chosen.loss) or ""
        needs = [need.name for need in chosen.needs]
        options = ", ".join(f"{name} = {value:g}" for name, value in chosen.parameters.items())
        says = f"`{chosen.name}`: {' '.join(formula.split()).rstrip('.')}."
        says += f" Needs {', '.join(needs)}." if needs else ""
        found.append(says + (f" Parameters: {options}." if options else ""))
    formula = "−log σ(β f'(u_w) − β f'(u_l)), u = π_θ/π_ref"
    return items(found) + f"\n\nThe f-DPO objectives are {formula}, with the f' that is named."


def all_records() -> str:
    """The records of runs and stages, field by field."""
    kinds = [run_records.Run, run_records.Iteration, records.Samples, records.Annotations, records.Scores,
             records.Fitted, records.Evaluated, records.Bracket, records.Diagnosed, records.FittedOracle,
             records.FittedPart, records.Phase, records.OracleTested, records.Tested, records.Met,
             records.TournamentHeld, records.Played, records.Benchmarked]  # fmt: skip
    parts = []
    for kind in kinds:
        where = f" (`{kind.FILE}`)" if hasattr(kind, "FILE") else ""
        head, _, rest = (inspect.getdoc(kind) or "").partition("\n\nAttributes:\n")
        parts.append(f"### {kind.__name__}{where}\n\n{head.split(chr(10))[0]}\n")
        attributes = re.split(r"\n(?=    \S)", "\n" + rest.rstrip())
        parts.append(
            items("`" + " ".join(a.split()).replace(": ", "`: ", 1) for a in attributes if a.strip()) + "\n"
        )
    return "\n".join(parts).rstrip()


def filled(name: str) -> str:
    """What stands under a name between the marks of a page."""
    kind, _, argument = name.partition(":")
    simple: dict[str, Callable[[], str]] = {
        "TABLES": tables,
        "OBJECTIVES": objectives,
        "RECORDS": all_records,
    }
    if kind == "KEYS" and argument == "training-fixed":
        return items(f"`{key}`: {why}" for key, why in FIXED.items())
    return keys(argument) if kind == "KEYS" else simple[kind]()


_REGION = re.compile(r"(<!-- generated: ([A-Z]+(?::[\w-]+)?) -->\n).*?(<!-- end -->)", re.DOTALL)


def generated(text: str) -> str:
    """Return a page with its lists as the code has them now."""
    return _REGION.sub(lambda found: f"{found[1]}\n{filled(found[2])}\n\n{found[3]}", text)


def main() -> None:
    """Write the pages whose lists have changed."""
    for page in sorted(Path(__file__).parent.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if generated(text) != text:
            page.write_text(generated(text), encoding="utf-8")
            print(page)


if __name__ == "__main__":
    main()
