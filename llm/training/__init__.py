"""What trains: log-probabilities, anchors, losses, the trainer."""
