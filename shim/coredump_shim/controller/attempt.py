"""One try at what is to be done for one of many: its failure holds up no other, and it is tried again later.

Not here: what is done (arrivals, newcomers), and when it is tried again (pace).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from coredump_shim.controller.doubt import Doubt
from coredump_shim.controller.endpoints import is_general
from coredump_shim.controller.pace import SOON, Pace
from coredump_shim.controller.trouble import said
from coredump_shim.status import ApiError

log = logging.getLogger(__name__)


def attempt(pace: Pace, key: tuple[str, str], what: str, work: Callable[[], None]) -> bool:
    """Return whether it went well. Raises ApiError where kube-apiserver fails as a whole."""
    try:
        work()
    except (ApiError, OSError, Doubt) as error:
        if isinstance(error, ApiError) and is_general(error):
            pace.failed(key, SOON)
            raise
        failures = pace.failed(key)
        if failures in (1, 8):
            log.warning("%s %s/%s has to wait: %r", what, *key, said(error))
        return False
    pace.done(key)
    return True
