"""What is kept: answers by content, manifests."""
