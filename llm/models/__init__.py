"""Models and tokenizers: where they lie, how they are loaded, what they are by content."""
