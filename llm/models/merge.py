"""Merging an adapter into its base model: `python -m mnpo.llm.models.merge '[base, adapter, target, options]'`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mnpo.llm.models.loading import load_model, load_tokenizer, merged
from mnpo.llm.runtime.progress import quiet

if __name__ == "__main__":
    quiet()
    home, adapter, target, options = json.loads(sys.argv[1])
    base = load_model(Path(home), **options)
    merged(base, Path(adapter)).save_pretrained(target)
    load_tokenizer(Path(adapter)).save_pretrained(target)
