"""Any event that the records' definition allows, as hypothesis makes it out of the definition itself."""

from datetime import UTC
from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from core.records.events import EVENTS, Event

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.one_of(
    st.integers(-(2**40), 2**40).map(lambda thousandths: thousandths / 1000),
    st.integers(-(10**6), 10**6).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
)
SET_BY_THE_WRITER = "records_digest"
FREE = st.one_of(st.none(), st.booleans(), TEXTS, st.integers(-(2**31), 2**31), st.lists(TEXTS, max_size=2))


def _values(of: inspect.Type) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911, PLR0912 - one case a type
    match of:
        case inspect.StructType():
            given = [field for field in of.fields if field.required or field.name != SET_BY_THE_WRITER]
            fields = st.fixed_dictionaries({field.name: _values(field.type) for field in given})
            return fields.map(lambda values: of.cls(**values))
        case inspect.UnionType():
            return st.one_of([_values(one) for one in of.types])
        case inspect.ListType():
            return st.lists(_values(of.item_type), max_size=2)
        case inspect.DictType():
            return st.dictionaries(TEXTS, _values(of.value_type), max_size=3)
        case inspect.EnumType():
            return st.sampled_from(list(of.cls))
        case inspect.DateTimeType():
            return st.datetimes(timezones=st.just(UTC))
        case inspect.LiteralType():
            return st.sampled_from(of.values)
        case inspect.IntType():
            return st.integers(-(2**31), 2**31)
        case inspect.FloatType():
            return NUMBERS
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.AnyType():
            return FREE
        case _:
            return TEXTS


ANY_EVENT: st.SearchStrategy[Event] = st.one_of([_values(inspect.type_info(event)) for event in EVENTS])
