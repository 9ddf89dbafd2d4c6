"""Bytes that a search (`fuzz`) found worth keeping, as they were found: what is promised of any holds of these."""

from pathlib import Path

import pytest

from core.leonardo.saved_list import SavedList
from tests.any_bytes import HOLD
from tests.test_wire import gathered, received

CORPUS = Path(__file__).with_name("corpus")


def kept(what: str) -> list[Path]:
    found = sorted((CORPUS / what).iterdir())
    assert found
    return found


@pytest.mark.parametrize("what", HOLD)
def test_what_is_promised_of_any_bytes_holds_of_those_that_were_kept(what: str) -> None:
    for path in kept(what):
        HOLD[what](path.read_bytes())


@pytest.mark.unmeasured
def test_a_saved_list_is_read_as_one_that_is_received() -> None:
    for path in kept("list"):
        assert gathered(SavedList(path).list_runtimes()) == received(path.read_bytes()), path.name
