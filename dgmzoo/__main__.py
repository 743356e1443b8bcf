"""`python -m dgmzoo` is the `dgmzoo` command."""

from dgmzoo.command.main import main

main()
