"""Processes, launching, progress."""
