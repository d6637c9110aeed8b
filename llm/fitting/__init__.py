"""From judgments to oracles: where a fit starts, what it reads, and which judgments it takes."""
