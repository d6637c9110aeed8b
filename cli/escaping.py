"""Texts of the user's in what is printed: they are shown as they are, and have no effect."""

from __future__ import annotations

from rich.markup import escape as without_markup


def escape(text: str) -> str:
    """Return a text for Rich: its markup is text, and control characters and halves of characters become U+FFFD."""
    shown = "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)
    return without_markup(shown)
