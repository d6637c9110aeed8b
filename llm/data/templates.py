"""Chat templates, which come with models: rendered as transformers renders them, within bounds.

A template is a program. Its loops and calls are counted as it runs, by the work that they do and not by the clock,
so that what is refused is refused on every machine; texts that it builds are measured before they exist where an
operation could multiply them. No signal, thread or process is needed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from functools import cache, wraps
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator
from jinja2.sandbox import ImmutableSandboxedEnvironment

#: Characters of a template itself.
LONGEST = 2**17
#: Steps that a conversation may take, and more for each turn and each character of it.
_STEPS, _A_TURN, _A_LETTER = 100_000, 1000, 2
#: Characters of one text that a template builds, and so many times those of the conversation more.
_LETTERS, _TIMES = 2**20, 16
#: Characters that are worked on in one step.
_AT_ONCE = 1000
#: A conversation that every template that ends can write out, or refuse.
_TRIAL = ({"role": "user", "content": "a"},)
#: A number of so many digits in a format is a width that fills memory.
_WIDE = re.compile(r"\d{6}")


class Unbounded(ValueError):
    """A chat template that goes on for too long, or builds too much; it is of no use for any conversation."""


def render(tokenizer: Any, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
    """Write a conversation out as `tokenizer.apply_chat_template(messages, tokenize=False, **options)` does.

    Args:
        tokenizer: with a chat template.
        messages: the conversation.
        options: of the template, such as add_generation_prompt.

    Raises:
        Unbounded: see above.
        TemplateError, ValueError, TypeError, KeyError: what a template does that refuses it, or is none.
    """
    from transformers import PreTrainedTokenizerBase

    if type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template:
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, **options)
        )  # its own, without Jinja
    if not messages:
        raise ValueError("an empty conversation")
    template = _compiled(tokenizer.get_chat_template())
    given = {"tools": None, "documents": None, "add_generation_prompt": False, **options}
    with _Budget(messages) as budget:
        try:
            parts = []
            for part in template.generate(
                messages=list(messages), **{**tokenizer.special_tokens_map, **given}
            ):
                parts.append(budget.text(part))
            return str(budget.text("".join(parts)))
        except Unbounded as error:
            raise Unbounded(f"the chat template of {tokenizer.name_or_path}: {error}") from None
        except RecursionError:
            raise TemplateError("calls within calls without end") from None
        except (AttributeError, ArithmeticError, LookupError, AssertionError) as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from None


def check(tokenizer: Any, where: object) -> None:
    """Refuse a tokenizer whose chat template cannot be read, or goes on without end whatever it is given.

    Args:
        tokenizer: with a chat template or without.
        where: what the template belongs to.

    Raises:
        ValueError: names it, and the line.
    """
    template = tokenizer.chat_template
    for text in template.values() if isinstance(template, dict) else [template]:
        if text is None:
            continue
        if not isinstance(text, str):
            raise ValueError(f"the chat template of {where} is no text")
        if len(text) > LONGEST:
            raise ValueError(
                f"the chat template of {where} has {len(text)} characters; at most {LONGEST} are read"
            )
        try:
            with _Budget(()):
                _compiled(text)
        except (TemplateError, ValueError, TypeError, RecursionError, SyntaxError, OverflowError) as error:
            line = getattr(error, "lineno", None)
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            at = "" if line is None else f", line {line}"
            raise ValueError(f"the chat template of {where}{at}: {said}") from None
    if template is not None:
        with suppress(TemplateError, TypeError, KeyError):  # it may refuse this conversation, and take others
            try:
                render(tokenizer, _TRIAL, add_generation_prompt=True)
            except Unbounded as error:
                raise ValueError(f"the chat template of {where}: {str(error).partition(': ')[2]}") from None
            except ValueError:
                pass


class _Budget:
    """What one rendering may still do; the one at work is known to the thread."""

    _now = threading.local()

    def __init__(self, messages: Sequence[Mapping[str, Any]]) -> None:
        size = sum(len(text) for turn in messages for text in turn.values() if isinstance(text, str))
        self._left = _STEPS + _A_TURN * len(messages) + _A_LETTER * size
        self._most = _LETTERS + _TIMES * size
        self._before: _Budget | None = None

    def __enter__(self) -> _Budget:
        self._before = getattr(self._now, "budget", None)
        self._now.budget = self
        return self

    def __exit__(self, *_: object) -> None:
        self._now.budget = self._before

    @classmethod
    def now(cls) -> _Budget:
        found: _Budget = cls._now.budget
        return found

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise Unbounded("it loops: a conversation of this length needs no such number of steps")

    def text(self, value: Any) -> Any:
        """Count a value that was made."""
        if isinstance(value, Sized) and isinstance(value, str | bytes | list | tuple | dict | range):
            self.spend(1 + len(value) // _AT_ONCE)
            if not isinstance(value, range):
                self.room(len(value))
        else:
            self.spend(1)
        return value

    def room(self, length: float) -> None:
        """Refuse what would become too long."""
        if length > self._most:
            raise Unbounded("it builds a text or a list that is far longer than the conversation")

    def arguments(self, name: str, values: Iterable[Any]) -> None:
        """Refuse an operation whose result would be too long, before it is done."""
        given = list(values)
        for value in given:
            if isinstance(value, int) and abs(value) > self._most:
                raise Unbounded("it counts with numbers that are far larger than the conversation")
            if isinstance(value, str) and name in _FORMATS and _WIDE.search(value):
                raise Unbounded("it builds a text or a list that is far longer than the conversation")
        texts = [value for value in given if isinstance(value, str)]
        if name == "replace" and len(texts) >= 3:
            self.room(len(texts[0]) + texts[0].count(texts[1]) * len(texts[2]))
        elif name in ("replace", "indent", "wordwrap", "expandtabs") and texts:
            widest = max([0, *(value for value in given if isinstance(value, int))])
            self.room(len(texts[0]) + (texts[0].count("\n") + texts[0].count("\t") + 1) * widest)
            self.room(len(texts[0]) + (texts[0].count("\n") + 1) * max([0, *map(len, texts[1:])]))
        elif name == "join":
            for value in given:
                if isinstance(value, list | tuple):
                    glue = max([0, *map(len, texts)])
                    self.room(sum(len(one) + glue for one in value if isinstance(one, str)))


#: What reads a width from a text.
_FORMATS = ("%", "format", "format_map")


class _Code(CodeGenerator):
    """Python code of templates, in which texts that are joined are counted."""

    def visit_Concat(self, node: nodes.Concat, frame: Any) -> None:  # jinja2 names it
        self.write("environment.counted(")
        super().visit_Concat(node, frame)
        self.write(")")


class _Bounded(ImmutableSandboxedEnvironment):
    """Transformers' environment, which counts."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])
    code_generator_class = _Code

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            looked = nodes.EnvironmentAttribute("looped", lineno=loop.lineno)
            loop.iter = nodes.Call(looked, [loop.iter], [], None, None, lineno=loop.lineno)
        tree.set_environment(self)
        return tree

    def counted(self, value: Any) -> Any:
        return _Budget.now().text(value)

    def looped(self, values: Any) -> Any:
        """Return what a loop goes over; what has no length is counted on the way."""
        if not isinstance(values, Iterator):
            if isinstance(values, Sized):
                _Budget.now().spend(len(values))
            return values
        return self._one_by_one(values)

    def _one_by_one(self, values: Iterator[Any]) -> Iterator[Any]:
        for value in values:
            _Budget.now().spend(1)
            yield value

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        budget = _Budget.now()
        if operator == "%" and isinstance(left, str):
            budget.arguments("%", [left, *(right if isinstance(right, tuple) else [right])])
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple) and isinstance(other, int):
                    budget.room(len(one) * other)
            if isinstance(left, int) and isinstance(right, int):
                budget.room((left.bit_length() + right.bit_length()) * _AT_ONCE)
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            budget.room(abs(right) * max(1, left.bit_length()) * _AT_ONCE)
        return budget.text(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Any:
        """See the sandbox: a text's own format is looked at when the template takes it."""
        if str(getattr(value, "__name__", "")) in _FORMATS and isinstance(
            getattr(value, "__self__", None), str
        ):
            _Budget.now().arguments("format", [value.__self__])
        return super().wrap_str_format(value)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # as jinja2's
        budget = _Budget.now()
        owner = getattr(__obj, "__self__", None)
        name = str(getattr(__obj, "__name__", ""))
        owners = [owner] if isinstance(owner, str) else []
        budget.arguments(name, [*owners, *args, *kwargs.values()])
        return budget.text(super().call(__context, __obj, *args, **kwargs))


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that counts."""

    @wraps(function)
    def counting(*args: Any, **kwargs: Any) -> Any:
        budget = _Budget.now()
        budget.arguments(name, [*args, *kwargs.values()])
        return budget.text(function(*args, **kwargs))

    return counting


@cache
def _environment() -> _Bounded:
    from transformers.utils import chat_template_utils

    theirs = chat_template_utils._compile_jinja_template("").environment
    ours = _Bounded(
        trim_blocks=theirs.trim_blocks,
        lstrip_blocks=theirs.lstrip_blocks,
        extensions=[type(extension) for extension in theirs.extensions.values()],
    )
    ours.filters = {name: _guarded(name, function) for name, function in theirs.filters.items()}
    ours.tests = theirs.tests
    ours.globals = {name: value for name, value in theirs.globals.items() if name != "lipsum"}
    return ours


@cache
def _compiled(template: str) -> Any:
    with _Budget(()):
        return _environment().from_string(template)
