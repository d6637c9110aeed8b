"""`python -m mnpo.cli`, for launchers that start modules."""

from mnpo.cli.main import main

main()
