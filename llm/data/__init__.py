"""What goes in: published formats, chat encoding, prompts."""
