"""What waitress' errors become; tests/integration/test_refused_requests.py provokes them."""

from __future__ import annotations

import pytest
from waitress import utilities
from waitress.adjustments import Adjustments

from coredump_shim.refusal import refusal

ADJ = Adjustments(max_request_body_size=1234, max_request_header_size=567)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (utilities.BadRequest("Invalid header"), 400, "Invalid header"),
        (utilities.RequestEntityTooLarge("x"), 413, "1234 bytes"),
        (utilities.RequestHeaderFieldsTooLarge("x"), 431, "567 bytes"),
        (utilities.ServerNotImplemented("Transfer-Encoding"), 501, "Transfer-Encoding"),
    ],
)
def test_says_what_is_wrong(error: utilities.Error, code: int, said: str) -> None:
    became = refusal(error, ADJ)
    assert (became.code, became.reason != "Unknown") == (code, True)
    assert said in became.message


def test_a_bug_of_ours_is_not_told() -> None:
    assert "secret" not in refusal(utilities.InternalServerError("secret"), ADJ).message
