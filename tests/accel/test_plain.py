"""Plain results have the bytes that FastAPI and json.dumps give them."""

import json
from typing import Any

from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from hypothesis import given
from hypothesis import strategies as st

from fastserve.accel.plain import MAX_DEPTH, encode

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.sampled_from(["_sa", "_sab"]), inner)
    ),
)


@given(VALUES)
def test_what_is_encoded_is_what_fastapi_sends(value: Any) -> None:
    found = encode(value)
    if found is not None:
        assert found == JSONResponse(jsonable_encoder(value)).body


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_written_as_python_writes_them(value: float) -> None:
    found = encode(value)
    if found is not None:
        assert found == json.dumps(value).encode()


def test_ordinary_results_are_encoded() -> None:
    assert encode({"a": [1, 2.5, True, None, ("x",)], "é": {}}) == '{"a":[1,2.5,true,null,["x"]],"é":{}}'.encode()


def test_what_only_looks_plain_is_not() -> None:
    class Name(str):
        __slots__ = ()

    nested: list[Any] = []
    for _ in range(MAX_DEPTH + 1):
        nested = [nested]
    circle: list[Any] = []
    circle.append(circle)
    for value in (
        Name("a"),
        {Name("a"): 1},
        {1: 2},
        {"_sa": 1},
        float("nan"),
        1e16,
        1e-5,
        2**63,
        {1},
        nested,
        circle,
        "\ud800",
    ):
        assert encode(value) is None
