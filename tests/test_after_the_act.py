"""What a run makes of an act whose answer tells nothing, and of what it cannot see or does not understand."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import TrueStatus
from core.sandbox.roles import Role
from core.sandbox.server import SandboxServer, serving
from tests.conftest import Ended, a_machine, calls, delete, paths

Run = Callable[..., Ended]
FIRST = "terra-1/all-of-us-1"
NOW = timedelta(0)
LOOK, DELETE = f"get {FIRST}", f"delete {FIRST}"
RUNTIMES, DISKS = "project_list terra-1", "project_disk_list terra-1"
NOT_FOUND = '{"message": "Runtime not found", "exceptionClass": "class x.RuntimeNotFoundException"}'
SAM = '{"message": "AuthProvider error: x", "exceptionClass": "class x.AuthProviderException"}'


def live(server: SandboxServer, *arguments: str) -> tuple[str, ...]:
    return delete(server, "--no-dry-run", "--audit-file", "audit/live.jsonl", "--max-act-share", "1", *arguments)


def verified(run: Run) -> list[Any]:
    answer = json.loads(run("review-audit-log", "verify", "--from", "audit", "--output", "json").out)
    return [finding for verdict in answer["runs"] for finding in verdict["findings"]]


def confirmed(run: Run, server: SandboxServer) -> list[str]:
    asked = ("confirm-deletions", "--leonardo-url", server.url, "--auth", "none", "--output", "json", "--from", "audit")
    return [record["outcome"] for record in run(*asked).events("deletion_confirmed")]


# what our own act broke


class BreaksWhenLookedAt(Leonardo):
    """The first DELETE that fails is carried out late, and ends in Error."""

    looks = 0

    def get(self, project: str, name: str) -> bytes:
        self.looks += 1
        if self.looks == 2:
            self.machine(project, name).status = TrueStatus.ERROR
        return super().get(project, name)


def test_a_deletion_that_was_answered_500_and_ended_in_error_has_failed_with_that_answer(run: Run) -> None:
    with serving(Leonardo([a_machine(1, deletion_ends_in="error")], deletion_takes=NOW)) as server:
        server.faults.add(Fault(call="delete", status=500, body='{"message": "boom"}', act_first=True))
        ended = run(*live(server))
        assert calls(server) == ["list", LOOK, DELETE, RUNTIMES]
        record = ended.audited[FIRST]
        assert (ended.code, record["outcome"], record["severity"]) == (1, "failed", "ERROR")
        assert (record["http_status"], record["error"]["message"]) == (500, "boom")
        assert "; the act has left it in Error; boom" in record["message"]
        assert ended.finished["failed"] == [FIRST]
        assert verified(run) == []
        assert confirmed(run, server) == ["errored"]


def test_so_it_has_where_only_the_look_of_the_second_try_shows_it(run: Run) -> None:
    with serving(BreaksWhenLookedAt([a_machine(1)])) as server:
        server.faults.add(Fault(call="delete", status=500, body='{"message": "boom"}'))
        ended = run(*live(server))
        assert calls(server) == ["list", LOOK, DELETE, RUNTIMES, LOOK]
        record = ended.audited[FIRST]
        assert (ended.code, record["outcome"], record["reason"]) == (1, "failed", "max_age")
        assert "; the act has left it in Error; boom" in record["message"]
        assert (record["http_status"], record["error"]["message"]) == (500, "boom")
        assert verified(run) == []
        assert confirmed(run, server) == ["errored"]


def test_a_second_try_whose_answer_is_lost_is_in_doubt_where_no_list_tells_of_it(run: Run) -> None:
    faults = [
        Fault(call="delete", status=500),
        Fault(call="delete", status=500, act_first=True),
        Fault(call="project_list", skip=1, status=403, times=None),
    ]
    with serving(Leonardo([a_machine(1)]), faults=faults) as server:
        ended = run(*delete(server, "--no-dry-run"))
    (record,) = ended.audited.values()
    assert (ended.code, record["outcome"], record["attempts"]) == (1, "in_doubt", 2)


def test_what_was_in_error_before_gets_its_second_try(run: Run) -> None:
    with serving(Leonardo([a_machine(1, status=TrueStatus.ERROR)], deletion_takes=None)) as server:
        server.faults.add(Fault(call="delete", status=500))
        ended = run(*live(server, "--delete-errored"))
    assert (ended.code, ended.audited[FIRST]["attempts"], ended.outcome(FIRST)) == (
        0,
        2,
        ("delete", "max_age", "deletion_accepted"),
    )


def test_the_record_of_the_second_try_names_the_disk_that_the_first_has_detached(run: Run) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=NOW)) as server:
        server.faults.add(Fault(call="delete", detach=True, status=500))
        ended = run(*live(server))
        record = ended.audited[FIRST]
        assert (ended.code, record["outcome"], record["attempts"]) == (0, "deletion_accepted", 2)
        assert (record["disk"], record["persistent_disk_id"]) == ("kept", "1001")
        assert verified(run) == []
        assert confirmed(run, server) == ["confirmed"]
        assert server.leonardo.disks[1001].status == "Ready"


# evidence


def test_a_runtime_that_is_gone_after_an_act_that_may_have_been_carried_out_is_accepted_with_the_evidence(
    run: Run,
) -> None:
    with serving(Leonardo([a_machine(1)], deletion_takes=NOW)) as server:
        server.faults.add(Fault(call="delete", status=500, act_first=True))
        ended = run(*live(server))
        assert calls(server) == ["list", LOOK, DELETE, RUNTIMES, DISKS]
    record = ended.audited[FIRST]
    assert (ended.code, record["outcome"], record["evidence"]) == (0, "deletion_accepted", "project_seen")
    assert (record["disk"], record["persistent_disk_id"], record["disk_gb"]) == ("kept", "1001", 120)


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("lost", "candidates", "outcome", "code"),
    [(10, 10, "gone", 0), (11, 43, "failed", 1), (11, 44, "gone", 0), (12, 44, "failed", 1)],
)
def test_many_that_are_not_listed_any_more_are_not_visible(
    run: Run, lost: int, candidates: int, outcome: str, code: int
) -> None:
    """The role is lost between the list and the looks."""
    fleet = [a_machine(n) for n in range(1, candidates + 1)]
    with serving(Leonardo(fleet, roles=RolesLostAfterTheList(lost))) as server:
        ended = run(*live(server))
    affected = [ended.audited[path] for path in paths(*range(1, lost + 1))]
    assert {record["outcome"] for record in affected} == {outcome}
    assert ended.code == code
    if outcome == "failed":
        assert {(r["error"]["kind"], r["evidence"]) for r in affected} == {("not_visible", None)}
        assert "has the caller lost its role?" in affected[0]["message"]
    else:
        assert {r["evidence"] for r in affected} == {"unlisted"}
    assert ended.finished["outcomes"].get("deletion_accepted", 0) == candidates - lost
    assert verified(run) == []


class RolesLostAfterTheList(dict[str, Role]):
    """The first projects cannot be seen any more once each has been listed."""

    def __init__(self, lost: int) -> None:
        super().__init__()
        self._unseen = {f"terra-{number}" for number in range(1, lost + 1)}
        self._asked: Counter[str] = Counter()

    def get(self, project: str, default: Any = None) -> Any:
        self._asked[project] += 1
        return Role.NONE if project in self._unseen and self._asked[project] > 1 else default


@pytest.mark.parametrize("call", ["get", "delete"])
def test_a_404_of_sams_has_failed_as_denied_and_no_list_is_asked_for(run: Run, call: Any) -> None:
    with serving(Leonardo([a_machine(1)]), faults=[Fault(call=call, status=404, body=SAM)]) as server:
        ended = run(*live(server))
        assert calls(server) == ["list", LOOK, *([DELETE] if call == "delete" else [])]
    assert (ended.code, ended.audited[FIRST]["outcome"], ended.audited[FIRST]["error"]["kind"]) == (
        1,
        "failed",
        "denied",
    )


def test_a_row_that_lists_and_answers_every_look_with_404_has_failed_each_time(run: Run) -> None:
    with serving(Leonardo([a_machine(1, hidden=True), a_machine(2)])) as server:
        for others in ([paths(2)[0]], []):
            ended = run(*live(server))
            assert (ended.code, ended.finished["failed"]) == (1, [FIRST])
            assert (ended.audited[FIRST]["outcome"], ended.audited[FIRST]["error"]["kind"]) == ("failed", "not_visible")
            accepted = [path for path, record in ended.audited.items() if record["outcome"] == "deletion_accepted"]
            assert accepted == others
    assert ended.audited[FIRST]["failed_before"]["times"] == 1


def test_a_project_costs_at_most_two_lists_of_runtimes_and_two_of_disks(run: Run) -> None:
    """Each of its runtimes is to be settled, those that are gone too, and again after the second tries."""
    fleet = [
        a_machine(n, project="terra-1", creator="lifecycle-jobs@example.iam.gserviceaccount.com") for n in range(1, 7)
    ]
    faults = [
        Fault(call="delete", name="all-of-us-1", status=500, times=None),
        Fault(call="delete", name="all-of-us-2", status=500, act_first=True),
        Fault(call="delete", name="all-of-us-3", reset=True, times=None),
        Fault(call="get", name="all-of-us-4", user="delete", status=404, body=NOT_FOUND),
        Fault(call="get", name="all-of-us-5", user="reset", status=404, body=NOT_FOUND),
    ]
    with serving(Leonardo(fleet, deletion_takes=NOW), faults=faults) as server:
        run(*live(server, "--write-concurrency", "1"))
        made = Counter(call for call in calls(server) if call in (RUNTIMES, DISKS))
    assert made[RUNTIMES] == 2
    assert made[DISKS] <= 2


def test_where_the_list_of_disks_cannot_be_read_nothing_is_settled(run: Run) -> None:
    faults = [
        Fault(call="get", user="delete", status=404, body=NOT_FOUND),
        Fault(call="project_disk_list", status=403),
    ]
    with serving(Leonardo([a_machine(1)], deletion_takes=NOW), faults=faults) as server:
        ended = run(*live(server))
    assert (ended.code, ended.audited[FIRST]["outcome"], ended.audited[FIRST]["error"]["kind"]) == (
        1,
        "failed",
        "not_visible",
    )


# what is not understood


def test_impossible_dates_are_no_age(run: Run) -> None:
    """One of 1970 that was used a minute ago, and one that was used before it was there."""
    fleet = [a_machine(1, idle_hours=0), a_machine(2)]
    fleet[0].created = datetime(1970, 1, 1, tzinfo=UTC)
    fleet[1].accessed = fleet[1].created - timedelta(minutes=6)
    with serving(Leonardo(fleet)) as server:
        ended = run(*live(server))
        assert calls(server) == ["list"]
    assert {ended.outcome(path) for path in paths(1, 2)} == {("keep", "undated", "kept")}


@pytest.mark.parametrize(("odd", "warned"), [(2, False), (3, True)])
def test_where_most_is_not_understood_a_run_says_so(run: Run, odd: int, warned: bool) -> None:  # noqa: FBT001
    fleet = [a_machine(n, days=1, omits=("cloudContext",) if n <= odd else ()) for n in range(1, 5)]
    with serving(Leonardo(fleet)) as server:
        ended = run(*live(server))
        shown = run(*(word if word != "json" else "table" for word in delete(server)))
    assert ended.code == 0
    assert ended.finished["reasons"].get("cloud_not_supported") == odd
    said = f"{odd} of 4 runtimes are kept because they are not understood ({odd} cloud_not_supported)"
    assert [said in warning for warning in ended.finished["warnings"]] == [True] * warned
    assert (said in " ".join(shown.out.split())) is warned
