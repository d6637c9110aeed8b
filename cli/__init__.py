"""The command line: thin; every command calls one function of `mnpo.sim`."""
