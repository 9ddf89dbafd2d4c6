"""Answers as CSV: what a spreadsheet shows is what the log said, and no name becomes a formula."""

import csv
import io
from datetime import timedelta

import pytest

from core.review import questions as review
from core.review.deletions import DeletedBy
from core.review.upcoming import Due, upcoming
from core.screen.spreadsheet import ROWS, in_csv
from jobs.review_audit_log import IN_ROWS
from tests.test_review_answers import NOW, closing, kept, line, opening, record

NONE = DeletedBy(month=[], project=[], creator=[])


def read(sheet: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(sheet.decode())))


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_no_name_becomes_a_formula(begin: str) -> None:
    name = f'{begin}HYPERLINK("http://evil";"a,b")'
    records = [opening("a"), closing("a"), kept("a", name=name, due_at=NOW)]
    header, row = read(in_csv(upcoming(records, timedelta(days=1), NOW)))
    assert header == [*Due.__struct_fields__]
    assert [row[header.index(field)] for field in ("creator", "overdue", "due_at", "name", "disk")] == [
        "ada",
        "true",
        "2026-11-20T03:00:00Z",
        f"'{name}",
        "",
    ]


def test_lists_counts_flags_and_what_is_missing_have_cells() -> None:
    answer = review.Runs(
        runs=[line("-a", refused_by=["max_acts", "plan"], listed=3, exit_code=None)], failing=[], deleted=NONE
    )
    header, row = read(in_csv(answer))
    shown = dict(zip(header, row, strict=True))
    assert (shown["run_id"], shown["dry_run"], shown["listed"], shown["exit_code"]) == ("'-a", "true", "3", "")
    assert shown["refused_by"] == "max_acts; plan"


def test_the_rows_of_a_run_that_asked_what_became_of_deletions_are_its_answers() -> None:
    confirmed = record("c", "deletion_confirmed", action="", reason="", outcome="stuck")
    header, row = read(in_csv(review.run([opening("c"), confirmed], "c", NOW)))
    assert (row[header.index("outcome")], row[header.index("name")]) == ("stuck", "a")
    assert "reason" in read(in_csv(review.run([opening("c")], "c", NOW)))[0]


def test_every_question_in_rows_has_rows() -> None:
    assert len(IN_ROWS) == len(ROWS)
