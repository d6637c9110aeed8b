"""Networks on finite games against the table."""
