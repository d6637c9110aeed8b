"""The figures: a file for each kind of record, drawn from plain data."""
