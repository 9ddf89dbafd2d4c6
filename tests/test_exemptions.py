"""Who is spared, and until when."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rules.exemptions import LONGEST, Exemption, longest, matching
from core.runtime import Runtime

UNTIL = datetime(2026, 12, 1, tzinfo=UTC)
RUNTIME = Runtime(
    id="1",
    project="terra-1",
    name="all-of-us-7",
    creator="ada@example.org",
    labels={"tool": "Jupyter", "team": "", "a=b": "c", "keep": "yes"},
)


def longest_match(exemptions: Sequence[Exemption], runtime: Runtime) -> Exemption | None:
    return longest(exemptions, matching(exemptions, runtime))


def matches(*, runtime: Runtime = RUNTIME, **fields: Any) -> bool:
    return Exemption(until=UNTIL, reason="workshop", **fields).matches(runtime)


def test_the_bound_is_the_designs() -> None:
    assert timedelta(days=180) == LONGEST


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("terra-1", True),
        ("terra-*", True),
        ("*", True),
        ("terra-?", True),
        ("terra-[0-3]", True),
        ("terra-[!2]", True),
        ("*-1", True),
        ("terra-1*", True),
        ("terra", False),
        ("erra-1", False),
        ("terra-1?", False),
        ("terra-[2-9]", False),
        ("Terra-1", False),
        ("TERRA-*", False),
    ],
)
def test_a_glob_matches_the_whole_word_and_its_case(glob: str, expected: bool) -> None:  # noqa: FBT001
    assert matches(project=glob) is expected
    renamed = Runtime(id="1", project="x", name="terra-1", creator="terra-1", labels={"key": "terra-1"})
    assert matches(runtime=renamed, name=glob) is expected
    assert matches(runtime=renamed, creator=glob) is expected
    assert matches(runtime=renamed, label=(f"key={glob}",)) is expected


FIELDS: dict[str, tuple[Any, Any]] = {
    "project": ("terra-*", "other-*"),
    "name": ("all-of-us-?", "all-of-us"),
    "creator": ("*@example.org", "*@example.com"),
    "label": (("tool=J*", "keep=yes"), ("tool=J*", "keep=no")),
}


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.booleans(), min_size=1))
def test_all_given_fields_must_match(chosen: dict[str, bool]) -> None:
    fields = {name: FIELDS[name][0 if right else 1] for name, right in chosen.items()}
    assert matches(**fields) is all(chosen.values())


@pytest.mark.parametrize("glob", ["*", "?*", "", "None"])
def test_a_runtime_whose_creator_cannot_be_read_matches_every_creator(glob: str) -> None:
    nobodys = Runtime(id="1", project="terra-1", name="x", creator=None, labels={})
    assert matches(runtime=nobodys, creator=glob)
    assert not matches(runtime=nobodys, creator=glob, project="other")


@pytest.mark.parametrize("label", ["tool=Jupyter", "missing=*", "a=b=c"])
def test_labels_that_cannot_be_read_match_every_pattern(label: str) -> None:
    unread = Runtime(id="1", project="terra-1", name="x", labels=None)
    assert matches(runtime=unread, label=(label, "keep=yes"))
    assert not matches(runtime=unread, label=(label,), name="other")


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("tool=Jupyter", True),
        ("tool=Jup*", True),
        ("tool=*", True),
        ("team=", True),
        ("team=*", True),
        ("tool=jupyter", False),
        ("Tool=Jupyter", False),
        ("to*=Jupyter", False),
        ("tool=", False),
        ("missing=*", False),
        ("a=b=c", False),
    ],
)
def test_a_label_is_an_exact_key_and_a_glob(label: str, expected: bool) -> None:  # noqa: FBT001
    assert matches(label=(label,)) is expected


def test_a_labels_glob_may_hold_an_equals_sign() -> None:
    assert matches(runtime=Runtime(id="1", project="p", name="n", labels={"a": "b=c"}), label=("a=b=c",))


def test_every_label_must_match() -> None:
    assert matches(label=("tool=Jupyter", "keep=yes"))
    assert not matches(label=("tool=Jupyter", "keep=no"))
    assert not matches(label=("keep=no", "tool=Jupyter"))


def test_the_end_is_exclusive() -> None:
    exemption = Exemption(until=UNTIL, reason="workshop", project="*")
    tick = timedelta(microseconds=1)
    assert [exemption.lapsed(UNTIL + offset) for offset in (-tick, timedelta(0), tick)] == [False, True, True]


def test_of_those_that_match_the_one_that_ends_last_counts() -> None:
    exemptions = [
        Exemption(until=UNTIL, reason="early", project="terra-*"),
        Exemption(until=UNTIL + timedelta(days=2), reason="elsewhere", project="other-*"),
        Exemption(until=UNTIL + timedelta(days=1), reason="late", name="all-*"),
        Exemption(until=UNTIL - timedelta(days=900), reason="lapsed", project="*"),
    ]
    found = {longest_match(order, RUNTIME) for order in permutations(exemptions)}
    assert found == {exemptions[2]}


def test_none_is_found_where_none_matches() -> None:
    assert longest_match([], RUNTIME) is None
    assert longest_match([Exemption(until=UNTIL, reason="elsewhere", project="other")], RUNTIME) is None


def test_a_lapsed_one_is_found_too() -> None:
    lapsed = Exemption(until=datetime(2020, 1, 1, tzinfo=UTC), reason="old", project="*")
    assert longest_match([lapsed], RUNTIME) == lapsed
