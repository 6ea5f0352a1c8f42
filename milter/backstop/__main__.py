"""`python -m backstop` is the command `backstop`."""

import sys

from backstop.cli import main

sys.exit(main())
