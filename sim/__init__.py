"""Experiments on games: a catalogue, readers of real preferences, studies, figures and their records."""
