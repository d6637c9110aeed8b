"""Models behind an OpenAI-compatible endpoint, and asking them: what was answered is kept."""
