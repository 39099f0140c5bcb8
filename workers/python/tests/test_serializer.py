"""What `checkpointer.serde` lets values of checkpoints become."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from threadyard_worker.saver import HostSaver
from threadyard_worker.serializer import SerdeError, serializer


@dataclass
class Own:
    """A class of the project."""

    x: int


def loaded(value: Any, **rules: Any) -> Any:
    serde = serializer({"pickle_fallback": False, **rules})
    assert serde is not None
    return serde.loads_typed(JsonPlusSerializer(pickle_fallback=True).dumps_typed(value))


def test_nothing_said_is_as_langgraph_has_it() -> None:
    assert serializer(None) is None
    assert loaded(Own(1)) == Own(1)


@pytest.mark.parametrize("parts", [[__name__, "Own"], [*__name__.split("."), "Own"]])
def test_only_the_classes_that_were_named_are_made(parts: list[str]) -> None:
    assert loaded(Own(1), allowed_msgpack_modules=[parts]) == Own(1)
    assert loaded(Own(1), allowed_msgpack_modules=True) == Own(1)
    for others in (False, [], [["elsewhere", "Own"]]):
        assert not isinstance(loaded(Own(1), allowed_msgpack_modules=others), Own)


def test_values_of_the_older_form_name_what_they_may() -> None:
    old = b'{"lc": 2, "type": "constructor", "id": ["%s", "Own"], "kwargs": {"x": 1}}' % __name__.encode()

    def revived(**rules: Any) -> Any:
        serde = serializer({"pickle_fallback": False, **rules})
        assert serde is not None
        return serde.loads_typed(("json", old))

    assert revived(allowed_json_modules=[[__name__, "Own"]]) == Own(1)
    assert revived(allowed_json_modules=True) == Own(1)
    for others in ({}, {"allowed_json_modules": [["elsewhere", "Own"]]}, {"allowed_json_modules": False}):
        assert not isinstance(revived(**others), Own)


def test_pickles_are_read_where_somebody_says_so() -> None:
    kept = ("pickle", pickle.dumps("harmless"))
    for said, read in ((True, True), (False, False)):
        serde = HostSaver(None, serializer({"pickle_fallback": said})).serde  # type: ignore[arg-type]
        if read:
            assert serde.loads_typed(kept) == "harmless"
        else:
            with pytest.raises(NotImplementedError, match="pickle"):
                serde.loads_typed(kept)


def test_a_langgraph_that_does_not_know_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def older(*, pickle_fallback: bool) -> None:
        """As before there were lists of classes."""

    monkeypatch.setattr("threadyard_worker.serializer.JsonPlusSerializer", older)
    with pytest.raises(SerdeError, match="newer langgraph-checkpoint"):
        serializer({"pickle_fallback": False, "allowed_msgpack_modules": True})
