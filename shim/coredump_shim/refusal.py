"""Requests that waitress refuses by itself, before any application sees them, answered in Kubernetes' words.

Not here: what is refused (waitress' parser), and the application's own errors (status.register).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from waitress.task import ErrorTask

from coredump_shim.status import ApiError

if TYPE_CHECKING:
    from waitress.adjustments import Adjustments
    from waitress.utilities import Error


class RefusalTask(ErrorTask):  # type: ignore[misc] # waitress has no types
    """An error as the answer; it ends the connection, since nobody knows where the next request begins."""

    def execute(self) -> None:
        """Answer."""
        self.status, headers, body = refusal(self.request.error, self.channel.adj).plain()
        self.response_headers.extend(headers)
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


def refusal(error: Error, adj: Adjustments) -> ApiError:
    """Return one of waitress' errors as one of ours, with what to do about it."""
    sentences = {
        400: f"the request is not HTTP as it should be: {error.body}",
        413: f"the request's body is too large: it must be shorter than {adj.max_request_body_size} bytes",
        431: f"request line and headers must together be shorter than {adj.max_request_header_size} bytes",
        500: "an internal error occurred; the shim's log says more",
    }
    return ApiError(error.code, sentences.get(error.code, str(error.body)))
