"""`python -m gimmal` is the `gimmal` command."""

import sys

from gimmal.cli import main

if __name__ == "__main__":
    sys.exit(main())
