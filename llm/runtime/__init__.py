"""Processes, the workers of a run, progress, memory."""
