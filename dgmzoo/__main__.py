"""`python -m dgmzoo` is the `dgmzoo` command."""

from dgmzoo.cli import main

main()
