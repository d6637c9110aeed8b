"""From judgments to preference pairs and their targets."""
