"""The set of ids: exact, whatever the ids are."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rules.seen_ids import SeenIds

close = st.integers(0, 600)
ids = st.one_of(close, st.integers(), close.map(lambda n: 2**64 + n))


@given(st.lists(ids), st.lists(ids))
def test_an_id_is_new_exactly_once(numbers: list[int], others: list[int]) -> None:
    seen, expected = SeenIds(), set[int]()
    for number in numbers:
        assert seen.add(number) is (number not in expected)
        expected.add(number)
    assert [number in seen for number in (*numbers, *others)] == [number in expected for number in (*numbers, *others)]


@pytest.mark.unmeasured
def test_a_hundred_thousand_ids_that_lie_close_take_little_room() -> None:
    tracemalloc.start()
    try:
        seen = SeenIds()
        assert all(seen.add(10_000_000 + 3 * number) for number in range(100_000))
        room, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert room < 500_000
