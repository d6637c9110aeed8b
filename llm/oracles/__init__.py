"""Oracles that judge texts: reward models, preference models, judges over HTTP, synthetic ones, and one's own."""
