"""The command line by ``python -m gatefold``."""

import sys

from gatefold.command_line import main

if __name__ == "__main__":
    sys.exit(main())
