"""Runs the `dgmzoo` command when called as `python -m dgmzoo`."""

from dgmzoo.command.main import main

main()
