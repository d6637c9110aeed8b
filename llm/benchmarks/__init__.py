"""The benchmarks of the papers: judged ones, their statistics from judgments that exist, and academic ones."""
