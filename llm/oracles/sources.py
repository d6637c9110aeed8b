"""Python code of one's own: run from the file that holds it, and told apart by what it says."""

from __future__ import annotations

import dis
import inspect
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from mnpo.choices import suggestion
from mnpo.common.digests import bytes_digest, file_digest

#: What a function is asked for that does not say by its source what its answers depend on.
_ASK = "give it a key, plain data that names what its answers depend on: function.key = {..}"


class Loaded(NamedTuple):
    """What a file defines, and a digest of its content."""

    module: ModuleType
    digest: str


def load(file: Path) -> Loaded:
    """Run a Python file and return what it defines; a file whose content is the same runs once.

    What lies beside the file can be imported by it.

    Raises:
        ValueError: no such file, or one that fails: says in which line.
    """
    if not file.is_file():
        raise ValueError(f"file {file}: no such file")
    content, path = file.read_bytes(), file.resolve()
    digest = bytes_digest(content).hex()
    name = f"mnpo_own_{bytes_digest(str(path).encode()).hex()}_{digest}"
    if name in sys.modules:
        return Loaded(sys.modules[name], digest)
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(f"file {file} cannot be imported: {told(error, str(path))}") from error
    return Loaded(module, digest)


def pick(module: ModuleType, name: str, file: Path) -> Any:
    """Return what a file defines under a name.

    Raises:
        ValueError: nothing; names what is nearest.
    """
    if name in vars(module):
        return vars(module)[name]
    there = [
        known
        for known, value in vars(module).items()
        if not known.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    known = suggestion(name, there) if there else "it defines none"
    raise ValueError(f"file {file} has no function {name!r}; {known}")


def told(error: BaseException, path: str) -> str:
    """Return an error's kind and first line, and the last line of a file that it went through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    if isinstance(error, SyntaxError) and error.filename == path:
        lines.append(error.lineno)
    where = f" ({Path(path).name}, line {lines[-1]})" if lines else ""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    text = "".join(f": {line}" for line in said.strip().splitlines()[:1])
    return f"{type(error).__name__}{text}{where}"


def path_of(value: Any) -> str:
    """Return the file that defines a function or a class; empty where there is none."""
    try:
        return inspect.getfile(inspect.unwrap(value))
    except TypeError:
        return ""


def defined_in(value: Any) -> dict[str, Any]:
    """Return what an installed function or class is by content: its file and its name there.

    Raises:
        ValueError: it has no file.
    """
    try:
        return {"file": file_digest(Path(path_of(value))), "function": value.__qualname__}
    except (OSError, AttributeError):
        raise ValueError(f"{shown(value)} has no source to be told apart by; {_ASK}") from None


def described(function: Callable[..., Any]) -> dict[str, Any]:
    """Return what a function that is given as an object is by content: its source, and that of what it reads.

    What it imports from elsewhere counts by its name alone.

    Raises:
        ValueError: a function whose source is not to be had, or that reads what cannot be told by content.
    """
    return _Reader().function(function)


def is_plain(value: Any) -> bool:
    """Tell whether something is plain data, which a key may hold."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def shown(value: Any) -> str:
    """Return how an error calls a function or another thing."""
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else type(value).__name__


class _Reader:
    """Follows what functions of one module read."""

    def __init__(self) -> None:
        self._seen: set[FunctionType] = set()

    def function(self, given: Callable[..., Any]) -> dict[str, Any]:
        function = inspect.unwrap(given)
        if not isinstance(function, FunctionType):
            raise ValueError(f"{shown(given)} has no source to be told apart by; {_ASK}")
        if function.__closure__:
            read = ", ".join(function.__code__.co_freevars)
            raise ValueError(f"{shown(given)} depends on what stands around it ({read}); {_ASK}")
        self._seen.add(function)
        try:
            found: dict[str, Any] = {"source": inspect.getsource(function)}
        except (OSError, TypeError):
            raise ValueError(f"{shown(given)} has no source to be told apart by; {_ASK}") from None
        if function.__name__ == "<lambda>":  # of several in one line each has its own place
            found["columns"] = [column for _, _, column, _ in function.__code__.co_positions()]
        around = function.__globals__
        names = sorted(set(_read(function.__code__)) & around.keys())
        found["reads"] = {name: self._value(function, name, around[name]) for name in names}
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        found["defaults"] = [self._value(function, "a default", value) for value in defaults]
        return found

    def _value(self, function: FunctionType, name: str, value: Any) -> Any:
        if isinstance(value, ModuleType):
            return {"module": value.__name__}
        if isinstance(value, re.Pattern):
            return (
                {"pattern": value.pattern, "flags": value.flags} if is_plain(value.pattern) else repr(value)
            )
        if getattr(value, "__module__", function.__module__) != function.__module__ and hasattr(
            value, "__qualname__"
        ):
            return {"imported": f"{value.__module__}.{value.__qualname__}"}
        if isinstance(value, FunctionType):
            return {"function": name} if value in self._seen else self.function(value)
        if inspect.isclass(value):
            try:
                return {"class": inspect.getsource(value)}
            except (OSError, TypeError):
                pass
        if is_plain(value):
            return {"value": value}
        raise ValueError(
            f"{shown(function)} reads {name}, a {type(value).__name__}, which cannot be told by content; {_ASK}"
        )


def _read(code: CodeType) -> Iterator[str]:
    """Yield the names that code takes from around it, that of inner functions too."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _read(constant)
