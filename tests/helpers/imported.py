"""What a piece of code says and imports, in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

#: Libraries that take seconds to import.
HEAVY = ("torch", "transformers", "datasets", "accelerate", "huggingface_hub")


def said_and_imported(code: str) -> tuple[str, str]:
    """Run code; return what it printed, and which of the heavy libraries it loaded, by name."""
    told = f"\nimport sys; print(*sorted({set(HEAVY)!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code + told], capture_output=True, text=True, check=True)
    *said, heavy = done.stdout.splitlines()
    return "\n".join(said), heavy
