"""Entry point of `python -m coredump_guard`."""

import sys

from coredump_guard.cli import main

sys.exit(main())
