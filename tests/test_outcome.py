"""Each outcome has its row, its words and its severity, and stands in the published schema."""

import json
from pathlib import Path

import pytest

from core.records.outcome import CONFIRMATIONS, OUTCOMES, Meaning, Outcome, Severity
from core.rules.confirmation import Confirmation

SCHEMA = json.loads((Path(__file__).parents[1] / "core/records/audit.schema.json").read_text())["$defs"]


def test_every_outcome_is_in_the_table_and_in_the_schema() -> None:
    assert set(OUTCOMES) == set(Outcome)
    assert set(CONFIRMATIONS) == set(Confirmation)
    assert set(SCHEMA["Outcome"]["enum"]) == set(Outcome)
    assert set(SCHEMA["Confirmation"]["enum"]) == set(Confirmation)


@pytest.mark.parametrize("outcome", [*Outcome, *Confirmation])
def test_an_outcome_has_words_of_its_own_and_is_as_grave_as_it_is_urgent(outcome: Outcome | Confirmation) -> None:
    meanings: dict[str, Meaning] = {str(word): how for word, how in (*OUTCOMES.items(), *CONFIRMATIONS.items())}
    meaning = meanings[outcome]
    assert [other for other in meanings if meanings[other].words == meaning.words] == [outcome]
    assert meaning.words.format(act="delete").strip()
    if meaning.failed:
        assert meaning.severity in (Severity.WARNING, Severity.ERROR)
    if meaning.planned or meaning.accepted:
        assert meaning.severity is Severity.NOTICE
