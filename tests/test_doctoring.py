"""A corpus of doctored logs: whatever a field refutes is found, whatever a later run or a kept digest refutes too."""

import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.records.files import AuditFiles
from core.records.reader import AuditRecords
from core.review.verify import verify
from core.review.verify.chain import expected_digest_findings
from core.review.verify.finding import Kind
from tests.doctoring import ALL, BASES, Doctoring, Lines, as_bytes, doctored, sealed, write_bases

LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Lines]]:
    return write_bases(tmp_path_factory.mktemp("bases"))


def found(folder: Path, *runs: Lines, expected: str | None = None) -> list[str]:
    """What is off, each cause by its kind."""
    log = folder / "doctored.jsonl"
    log.write_bytes(b"".join(map(as_bytes, runs)))
    records = AuditRecords(AuditFiles([log]))
    kinds = [finding.kind.value for verdict in verify(records, LATER) for finding in verdict.findings]
    if expected is not None:
        kinds += [finding.kind.value for finding in expected_digest_findings(records.frames, expected)]
    return kinds + [fault.what for fault in records.faults]


@pytest.mark.parametrize("name", BASES)
def test_what_is_not_doctored_is_honest(bases: dict[str, list[Lines]], name: str, tmp_path: Path) -> None:
    assert found(tmp_path, *bases[name]) == []
    assert found(tmp_path, bases[name][0], sealed(copy.deepcopy(bases[name][1])), bases[name][2]) == []


@pytest.mark.parametrize("doctoring", ALL, ids=lambda doctoring: doctoring.name)
@pytest.mark.parametrize("digest", ["left", "removed", "made anew", "followed"])
def test_a_doctoring_shows_once_and_as_what_it_is(
    bases: dict[str, list[Lines]], doctoring: Doctoring, digest: str, tmp_path: Path
) -> None:
    first, middle, last = bases[doctoring.base]
    lines = doctored(bases[doctoring.base], doctoring)
    kind = doctoring.kind and doctoring.kind.value
    if digest == "left":
        expected = kind or (Kind.DIGEST.value if lines[-1]["event"] == "run_finished" else None)
        assert found(tmp_path, first, lines) == [expected]
        return
    sealed(lines, digest=digest != "removed")
    if digest == "followed":
        assert found(tmp_path, first, lines, last) == [kind or Kind.PREDECESSOR.value]
        return
    assert found(tmp_path, first, lines) == ([kind] if kind else [])
    if kind is None:
        kept = middle[-1]["records_digest"]
        assert found(tmp_path, first, lines, expected=kept) == [Kind.EXPECTED_DIGEST.value]
        assert doctoring.why


def test_there_are_enough_of_them() -> None:
    assert 4 * len(ALL) > 200
