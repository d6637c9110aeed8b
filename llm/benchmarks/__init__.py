"""The benchmarks of the papers: judged ones, from judgments that exist, and academic ones."""
