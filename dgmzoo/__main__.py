"""Makes `python -m dgmzoo` do the same as the command `dgmzoo`."""

from dgmzoo.command.main import main

main()
