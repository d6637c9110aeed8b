"""Where libraries read what somebody named: whatever they do with it becomes one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

#: Characters of what a library says that an error repeats.
_MOST = 300
#: Errors whose text says what is wrong by itself; of others the kind is named as well.
_TELLING = (OSError, ValueError, RuntimeError, ImportError, NotImplementedError)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Have a library read what somebody named.

    Nobody can list what transformers, safetensors, tokenizers and peft raise where a file is broken, so that
    everything counts; a panic of the tokenizers, which are written in Rust, is no `Exception` at all.

    Args:
        what: how the line begins, such as "cannot load the model m".

    Raises:
        ValueError: `what`, and what the library says.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what}: {reason(error)}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{what}: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """Return what an error says in one line: torch puts what is wrong into the one after its heading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    kind = type(error).__name__
    told = said if said and isinstance(error, _TELLING) else f"{kind}: {said}" if said else kind
    return told if len(told) <= _MOST else f"{told[:_MOST]}.."
