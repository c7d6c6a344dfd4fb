"""Whether parts are noticed to be replaced, however often and whatever holds them; with watchers and without."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from fastserve.accel import patches
from fastserve.accel.patches import Part, unchanged


class _Base:
    def call(self) -> None: ...


def _holder(kind: str) -> Any:
    if kind == "module":
        module: Any = ModuleType("module")
        module.call = _Base.call
        return module
    return type("Holder", (type("Middle", (_Base,), {}),), {})


@pytest.fixture(params=["watchers", "looking"])
def notices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice by watchers, where there are any, or by looking each time."""
    if request.param == "looking":
        monkeypatch.setattr(patches, "_Watched", None)


@pytest.mark.usefixtures("notices")
@pytest.mark.parametrize("kind", ["module", "class"])
def test_a_part_may_be_replaced_and_put_back_any_number_of_times(kind: str) -> None:
    holder = _holder(kind)
    found = holder.call
    holds = unchanged([Part("call", holder, "call", found)])
    # A class tells of no change any more when there have been a thousand.
    for number in range(1500):
        assert holds(), number
        assert holds(), number
        holder.call = lambda: None
        assert not holds(), number
        assert not holds(), number
        holder.call = found


@pytest.mark.usefixtures("notices")
def test_a_part_that_is_replaced_in_a_base_class_is_noticed() -> None:
    base: Any = type("Base", (), {"call": _Base.call})
    holder: Any = type("Holder", (base,), {})
    holds = unchanged([Part("call", holder, "call", holder.call)])
    assert holds()
    base.call = lambda self: None
    assert not holds()
    base.call = _Base.call
    assert holds()


@pytest.mark.usefixtures("notices")
def test_a_part_that_is_deleted_is_noticed() -> None:
    module: Any = ModuleType("module")
    module.call = module.other = _Base.call
    holds = unchanged([Part("call", module, "call", _Base.call)])
    del module.other
    assert holds()
    vars(module)["call"] = None
    assert not holds()
    vars(module).update(call=_Base.call)
    assert holds()
    vars(module).clear()
    with pytest.raises(AttributeError):
        holds()


@pytest.mark.usefixtures("notices")
def test_what_happens_to_other_parts_does_not_matter() -> None:
    module: Any = ModuleType("module")
    module.call = _Base.call
    holds = unchanged([Part("call", module, "call", _Base.call)])
    for number in range(10):
        module.count = number
        assert holds()
