"""The reason for which nothing may be collected now.

Not here: the reasons themselves; each is found where it shows (presence, clocks, ownership). A kube-apiserver
that does not answer is an ApiError, a store that cannot be read an OSError; they end a pass likewise.
"""

from __future__ import annotations


class Doubt(Exception):  # noqa: N818 # it is no error, but what keeps from one
    """What would be collected may still be needed; the message says why, and the remedy."""
