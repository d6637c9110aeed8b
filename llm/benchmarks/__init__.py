"""The judged benchmarks of the papers: their statistics, from judgments that exist."""
