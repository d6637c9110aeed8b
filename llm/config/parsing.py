"""YAML as people write configurations: plain data of a size that fits, each key once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mnpo.common.given import read_text

#: Bytes of a text, values in it with all that aliases repeat, and values within values.
_LONGEST, _MOST, _DEEPEST = 2**17, 20_000, 40
_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null")}
_MERGE, _DATE = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:timestamp"


class NotYaml(ValueError):
    """A text that is not written in YAML at all."""


class _Loader(yaml.SafeLoader):
    """YAML's safe loader; what looks like a date is a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML has them on the class
        first: [(tag, pattern) for tag, pattern in known if tag != _DATE]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def parse(text: str) -> Any:
    """Return what a text of YAML holds: dictionaries, lists, texts, numbers, true, false and null.

    Raises:
        NotYaml: no YAML.
        ValueError: too much of it, other things than plain data, or a key that is there twice.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"{len(text)} characters; a configuration has at most {_LONGEST}")
    try:
        _check_shape(text)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, {}, ())
    except yaml.YAMLError as error:
        raise NotYaml(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("values within values, too deep to be read") from None
    try:
        return loader.construct_document(node)
    except Exception as error:  # whatever a tag that does not fit its value makes of it
        raise ValueError(f"a value that is not what its tag says: {' '.join(str(error).split())}") from None


def parse_file(path: Path) -> Any:
    """Return what a YAML file holds.

    Raises:
        ValueError: names the file, and what is wrong with it.
    """
    text = read_text(path, _LONGEST)
    try:
        return parse(text)
    except NotYaml as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _check_shape(text: str) -> None:
    """Refuse a text as soon as it is too deep or too much: to build what it says takes the square of its depth.

    Raises:
        ValueError: says in which line.
    """
    depth = count = 0
    for event in yaml.parse(text, Loader=_Loader):
        mark = event.start_mark
        where = "" if mark is None else f"line {mark.line + 1}: "
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"{where}values within values, more than {_DEEPEST}")
        count += isinstance(event, yaml.NodeEvent)
        if count > 2 * _MOST:  # keys and values
            raise ValueError(f"{where}more than {_MOST} values")


def _check(node: yaml.Node, sizes: dict[int, int], above: tuple[int, ...]) -> int:
    """Return how many values a node is, an alias counted as all that it stands for.

    Args:
        node: of the text.
        sizes: of the nodes that were counted.
        above: the nodes that it is within.

    Raises:
        ValueError: says in which line.
    """
    if id(node) in above:
        raise ValueError(f"line {node.start_mark.line + 1}: a value that holds itself")
    if id(node) in sizes:
        return sizes[id(node)]
    if len(above) > _DEEPEST:
        raise ValueError(f"line {node.start_mark.line + 1}: values within values, more than {_DEEPEST}")
    if isinstance(node, yaml.ScalarNode) and any("\ud800" <= letter <= "\udfff" for letter in node.value):
        raise ValueError(f"line {node.start_mark.line + 1}: a text that is not valid Unicode")
    if node.tag not in _PLAIN:
        raise ValueError(f"line {node.start_mark.line + 1}: {node.tag} is no plain value")
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        inner = [value for _, value in node.value]
        _check_keys([key for key, _ in node.value])
    elif isinstance(node, yaml.SequenceNode):
        inner = node.value
    size = 1 + sum(_check(one, sizes, (*above, id(node))) for one in inner)
    if size > _MOST:
        raise ValueError(
            f"line {node.start_mark.line + 1}: more than {_MOST} values, with what aliases repeat"
        )
    sizes[id(node)] = size
    return size


def _check_keys(keys: list[yaml.Node]) -> None:
    seen: set[tuple[str, str]] = set()
    for key in keys:
        where = f"line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or key.tag not in {*_PLAIN, _MERGE}:
            raise ValueError(f"{where}: a key must be a text or a number")
        if (key.tag, key.value) in seen:
            raise ValueError(f"{where}: the key {key.value[:40]!r} is there twice")
        seen.add((key.tag, key.value))
