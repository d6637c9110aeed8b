"""JSON that says one thing: no key twice, no number that none can hold, no nesting without end."""

from __future__ import annotations

import json
import re
from typing import Any

from mnpo.values import shown

#: Digits of a whole number; one with more is no count, no weight and no float.
MOST_DIGITS = 300
#: Half of a pair of surrogates, as JSON escapes it or as bytes.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")


def parse_json(text: str) -> Any:
    """Parse JSON that says one thing: no key twice in an object, no NaN, no number that none can hold.

    Raises:
        json.JSONDecodeError: no JSON.
        ValueError: says what else is wrong.
    """
    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=_constant, parse_int=_whole)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def plain_json(content: bytes) -> Any:
    """Return what a row or a file of data in JSON holds.

    Raises:
        ValueError: as `parse_json`, or half a character.
    """
    found = parse_json(content.decode("utf-8", "surrogatepass"))
    if _HALF.search(content):
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a text that is not valid Unicode") from None
    return found


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object that keys and values make.

    Raises:
        ValueError: a key that is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {shown(twice)} stands twice in one object")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)
