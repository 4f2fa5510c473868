"""`python -m coredump_shim` is the command coredump-shim.

Not here: anything else.
"""

import sys

from coredump_shim.cli import main

sys.exit(main())
