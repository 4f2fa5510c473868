"""What is said to a download that kube-apiserver will probably cut."""

from __future__ import annotations

import re
import shlex
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coredump_shim import cut
from coredump_shim.archive import Plan
from coredump_shim.etag import ETag
from coredump_shim.parts import Part

PATH = "/apis/coredump.fujitsu.com/v1alpha1/namespaces/demo/coredumpendpoints/web/dump"
ETAG = ETag(0x123, "0123456789abcdef" * 2)
PLAN = Plan("/store", (), b"", ETAG)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def part(start: int = 0, stop: int = cut.LIKELY) -> Part:
    return Part(PLAN, start, stop, 200)


def commands(warning: str | None) -> list[list[str]]:
    """Return the commands of a warning as a shell would split them."""
    quoted = re.fullmatch(r'299 - "([^"\\]*)"', warning or "")
    assert quoted is not None, warning
    return [shlex.split(command) for command in re.findall(r"kubectl get --raw '[^']*'", quoted[1])]


def test_names_the_form_that_is_not_cut_and_that_in_parts() -> None:
    assert cut.warning(part(), PATH, [("container", "app")]) == (
        '299 - "kube-apiserver cuts this download after 60 s, and 240 MB may take longer; not cut: '
        f"kubectl get --raw '{PATH.removesuffix('dump')}proxy/dump?container=app'; in parts: "
        f"kubectl get --raw '{PATH}?container=app&offset=0&length=60000000&etag={ETAG}', "
        'then with offset=60000000 and so on, below 240000000"'
    )


def test_without_a_query() -> None:
    proxy, parts = commands(cut.warning(part(), PATH, []))
    assert proxy[3] == PATH.removesuffix("dump") + "proxy/dump"
    assert parts[3].startswith(f"{PATH}?offset=0&")


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, cut.LIKELY - 1), (cut.LIKELY, cut.LIKELY + 5), (7, cut.LIKELY + 6)]
)
def test_what_arrives_in_time_is_not_warned_of(start: int, stop: int) -> None:
    assert cut.warning(part(start, stop), PATH, []) is None


def test_long_part_goes_on_where_it_begins() -> None:
    asked = [("offset", "1000"), ("etag", "12-ab"), ("latest", "true")]
    proxy, parts = commands(cut.warning(part(1000, 1000 + cut.LIKELY), PATH, asked))
    assert dict(parse_qsl(urlsplit(proxy[3]).query)) == dict(asked)
    query = dict(parse_qsl(urlsplit(parts[3]).query))
    assert query == {
        "latest": "true",
        "offset": "1000",
        "length": str(cut.PART),
        "etag": str(ETAG),
    }


@given(name=TEXT, value=TEXT)
def test_hostile_names_stay_within_their_quotes(name: str, value: str) -> None:
    path = PATH.replace("web", name)
    warning = cut.warning(part(), path, [("container", value)])
    assert warning is not None and warning.isascii() and warning.isprintable()
    proxy, parts = commands(warning)
    for command, wanted in ((proxy, f"{path.removesuffix('dump')}proxy/dump"), (parts, path)):
        assert command[:3] == ["kubectl", "get", "--raw"] and len(command) == 4
        at, _, query = command[3].partition("?")
        assert unquote(at) == wanted
        assert parse_qsl(query, keep_blank_values=True)[0] == ("container", value)
