"""What sim and llm share that is no mathematics: whole files, digests, palette, progress."""
