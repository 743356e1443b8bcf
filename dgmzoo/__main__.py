"""Entry point of `python -m dgmzoo`, which runs the `dgmzoo` command."""

from dgmzoo.command.main import main

main()
