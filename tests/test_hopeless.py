"""A few runtimes whose deletion always fails hold up nobody, and a service that always fails is noticed each time."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo
from core.sandbox.machine import Machine
from core.sandbox.server import SandboxServer, serving
from tests.conftest import Ended, a_machine, aged, delete, paths

pytestmark = pytest.mark.unmeasured
Run = Callable[..., Ended]
LOG = Path("audit/log.jsonl")
THREE_HOURS = timedelta(hours=3)


def live(server: SandboxServer, *arguments: str) -> tuple[str, ...]:
    return delete(server, "--no-dry-run", "--audit-file", str(LOG), "--max-act-share", "1", *arguments)


def hopeless(numbers: Iterable[int], status: int = 500) -> list[Fault]:
    return [Fault(call="delete", name=f"all-of-us-{number}", status=status, times=None) for number in numbers]


def due(count: int) -> list[Machine]:
    """The first is the most overdue."""
    return [a_machine(number, days=200 - number) for number in range(1, count + 1)]


@pytest.mark.parametrize(("count", "runs"), [(5, 1), (12, 2), (25, 3), (60, 7)])
def test_all_that_can_be_deleted_is_after_few_runs(run: Run, count: int, runs: int) -> None:
    """Each run learns of ten of them, before the guard ends it."""
    healthy = {f"all-of-us-{number}" for number in range(count + 1, 101)}
    left: list[int] = []
    with serving(Leonardo(due(100), deletion_takes=timedelta(0)), faults=hopeless(range(1, count + 1))) as server:
        while not left or left[-1]:
            ended = run(*live(server, "--write-concurrency", "1"))
            assert ended.code in (1, 3)
            left.append(len(healthy & {machine.name for machine in server.leonardo.living()}))
            assert len(left) <= runs, left
            aged(LOG, THREE_HOURS)
    assert len(left) == runs, left


def test_a_quiet_fleet_with_five_hopeless_ones_goes_on_by_itself(run: Run) -> None:
    """Each run but the first has nothing else to do than to try them: ten failures in a row, with the second tries."""
    with serving(Leonardo([*due(5), a_machine(9, days=1)]), faults=hopeless(range(1, 6))) as server:
        for _ in range(4):
            ended = run(*live(server))
            assert (ended.code, ended.finished["refused_by"]) == (1, [])
            assert ended.finished["outcomes"] == {"failed": 5, "kept": 1}
            assert Counter(request.call for request in server.requests)["delete"] == 10
            server.log.reset()
            aged(LOG, THREE_HOURS)
        server.leonardo.add(a_machine(10))
        assert run(*live(server)).audited["terra-10/all-of-us-10"]["outcome"] == "deletion_accepted"


def test_second_tries_never_count(run: Run) -> None:
    """The last nine fail twice, which is eighteen failures in a row."""
    faults = [Fault(call="delete", name=f"all-of-us-{n}", status=500, times=2) for n in range(2, 11)]
    with serving(Leonardo(due(10)), faults=faults) as server:
        ended = run(*live(server, "--write-concurrency", "1"))
    assert (ended.code, ended.finished["refused_by"]) == (1, [])
    assert ended.finished["outcomes"] == {"failed": 9, "deletion_accepted": 1}


def test_while_every_deletion_fails_each_run_of_a_week_ends_by_the_guard(run: Run) -> None:
    with serving(Leonardo(due(20)), faults=[Fault(call="delete", status=500, times=None)]) as server:
        for hours in [3] * 8 + [24] * 6:
            ended = run(*live(server))
            assert (ended.code, ended.finished["refused_by"]) == (3, ["failing"])
            aged(LOG, timedelta(hours=hours))


def test_an_outage_after_better_days_ends_each_run_by_the_guard_too(run: Run) -> None:
    """Accepted before they began to fail: that says nothing of now."""
    with serving(Leonardo([*due(20), a_machine(99, days=300)], deletion_takes=timedelta(0))) as server:
        assert run(*live(server, "--only", "terra-99/all-of-us-99")).code == 0
        aged(LOG, THREE_HOURS)
        server.faults.add(Fault(call="delete", status=500, times=None))
        for _ in range(3):
            assert run(*live(server)).finished["refused_by"] == ["failing"]
            aged(LOG, THREE_HOURS)


def test_ten_hopeless_ones_in_a_row_end_their_own_turn_and_refuse_nothing(run: Run) -> None:
    with serving(Leonardo([*due(30), *due(31)[30:]]), faults=hopeless(range(1, 31))) as server:
        runs = [run(*live(server, "--write-concurrency", "1")) for _ in range(2)]
        while runs[-1].finished["refused_by"]:
            runs.append(run(*live(server, "--write-concurrency", "1")))
        ended = run(*live(server, "--write-concurrency", "1"))
        assert (ended.code, ended.finished["refused_by"]) == (1, [])
        outcomes = ended.finished["outcomes"]
        assert outcomes["failed"] == 10
        assert outcomes["withheld"] == 20
        server.leonardo.add(a_machine(99))
        assert run(*live(server)).audited["terra-99/all-of-us-99"]["outcome"] == "deletion_accepted"


def test_what_failed_before_comes_last(run: Run) -> None:
    with serving(Leonardo(due(6)), faults=hopeless([1, 3])) as server:
        assert run(*live(server, "--only", paths(1)[0], "--only", paths(3)[0])).code == 1
        server.log.reset()
        run(*live(server, "--write-concurrency", "1"))
        first_tries = list(dict.fromkeys(r.name for r in server.requests if r.call == "delete"))
    assert first_tries == [f"all-of-us-{number}" for number in (2, 4, 5, 6, 1, 3)]


def test_what_failed_a_week_ago_is_tried_in_its_turn_again(run: Run) -> None:
    with serving(Leonardo(due(3)), faults=hopeless([1])) as server:
        run(*live(server, "--only", paths(1)[0]))
        aged(LOG, timedelta(days=7))
        server.log.reset()
        ended = run(*live(server, "--write-concurrency", "1"))
        assert next(r.name for r in server.requests if r.call == "delete") == "all-of-us-1"
    assert ended.audited[paths(1)[0]]["failed_before"] is None


def test_records_and_rehearsals_say_how_often_and_since_when_one_failed(run: Run) -> None:
    with serving(Leonardo(due(2)), faults=hopeless([1])) as server:
        first = run(*live(server))
        run(*live(server))
        dry = run(*delete(server, "--audit-file", str(LOG), "--max-act-share", "1"))
        table = [word if word != "json" else "table" for word in delete(server, "--audit-file", str(LOG))]
        shown = " ".join(run(*table).out.split())
    begun = first.records[0]["time"]
    one, other = (dry.audited[path] for path in paths(1, 2))
    assert other.get("failed_before") is None
    assert one["outcome"] == "would_delete"
    assert one["failed_before"] == {"times": 2, "since": begun}
    since = datetime.fromisoformat(begun)
    said = f"failed in 2 earlier runs since {since:%Y-%m-%d %H:%M}"
    assert said in one["message"]
    assert f"terra-1/all-of-us-1 {said}" in shown
    assert "terra-2/all-of-us-2 failed" not in shown


def test_a_rehearsal_that_failed_is_no_earlier_failure(run: Run) -> None:
    with serving(Leonardo(due(2)), faults=[Fault(call="get", name="all-of-us-1", status=400)]) as server:
        assert run(*delete(server, "--audit-file", str(LOG))).code == 1
        assert run(*live(server)).audited[paths(1)[0]]["failed_before"] is None
