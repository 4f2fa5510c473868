"""What bodies mean; test_objects has what is refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coredump_shim import bodies
from coredump_shim.change import Wanted
from coredump_shim.status import ApiError

from .conftest import body

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def test_wanted() -> None:
    sent = body(spec={"poduid": "u"}, labels={"a": "b"}, annotations={"c": "d"}, uid="1", resourceVersion="2")
    assert bodies.wanted(sent, "demo") == Wanted("web", "u", {"a": "b"}, {"c": "d"}, "1", "2")


def test_path_names_what_the_body_leaves_open() -> None:
    sent = body() | {"metadata": None, "spec": None}
    assert bodies.wanted(sent, "demo", "web") == Wanted("web")


@given(ANY_JSON, ANY_JSON)
def test_any_json_is_wanted_or_refused(metadata: object, spec: object) -> None:
    try:
        bodies.wanted(body() | {"metadata": metadata, "spec": spec}, "demo")
    except ApiError as error:
        assert error.code in (400, 422)


def test_points_out_unknown_fields_and_not_too_many() -> None:
    assert bodies.unknown_fields(body(finalizers=[]) | {"spek": 1}) == ['"spek"', '"metadata.finalizers"']
    assert len(bodies.unknown_fields({str(number): 1 for number in range(1000)})) == bodies.MAX_POINTED_OUT
