"""What a sweep does with time, with records that cannot be kept, and with tokens: no command line can set these."""

import asyncio
import json
import time
from collections.abc import Callable, Collection, Coroutine
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from core.clock import RunClock, utc_now
from core.leonardo.calling import LastExchange
from core.leonardo.client import Leonardo
from core.leonardo.errors import CredentialsError, ErrorKind, LeonardoError
from core.leonardo.exchange import MethodRefusedError
from core.records import events
from core.records.outcome import Severity
from core.records.sinks import Sink
from core.records.writer import AuditLog, RunIdentity
from core.rules.deletion import DeletionPolicy
from core.rules.guards import Expectations
from core.run.account import Account
from core.run.listing import Listing, Scope
from core.run.running import Nobody, Running
from core.run.sweep import Bounds, Sweep
from core.run.task import Task
from core.runtime import Runtime
from core.sandbox.faults import Fault
from core.sandbox.leonardo import Leonardo as SandboxLeonardo
from core.sandbox.server import SandboxServer, serving
from core.settings.fields import Settings
from jobs.delete_old_runtimes import deletion
from tests.conftest import a_machine, calls, hold_to_the_schema, paths


class Memory:
    """A sink that remembers, and does what a test wants done when an intent is to be made durable."""

    name = "memory"
    full = False

    def __init__(self, on_durable: Callable[[], None] = lambda: None, *, fails_at: int | None = None) -> None:
        self.lines: list[bytes] = []
        self.durable: list[tuple[float, int]] = []
        self._on_durable = on_durable
        self._fails_at = fails_at

    def write(self, *lines: bytes) -> None:
        if len(self.lines) == self._fails_at:
            raise OSError(28, "No space left on device")
        self.lines.extend(lines)

    async def catch_up(self) -> None:
        pass

    async def make_durable(self) -> None:
        if b"_requested" in self.lines[-1]:
            self._on_durable()
        self.durable.append((time.monotonic(), len(self.lines)))

    @property
    def records(self) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in self.lines]
        for record in records:
            hold_to_the_schema(record)
        return records

    def outcomes(self) -> dict[str, str]:
        return {f"{r['project']}/{r['name']}": r["outcome"] for r in self.records if r["event"] == "runtime_audited"}


class Tokens:
    """Credentials that hand out these tokens, one after another, when asked for another one."""

    actor = "lifecycle@example.org"

    def __init__(self, *tokens: str) -> None:
        self._tokens = list(tokens)

    async def token(self, *, refused: str | None = None) -> str:
        if not self._tokens:
            raise CredentialsError("no access token: the metadata server is away")
        if refused == self._tokens[0] and len(self._tokens) > 1:
            self._tokens.pop(0)
        return self._tokens[0]


class Elapsing:
    """A monotonic clock that a test can push."""

    def __init__(self) -> None:
        self.pushed = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.pushed


HTTP_DATE = "%a, %d %b %Y %H:%M:%S GMT"


async def nothing(_: SandboxServer) -> None:
    pass


async def until(happened: Callable[[], bool]) -> None:
    while not happened():  # noqa: ASYNC110 - the sandbox runs on another thread and has no event to wait for
        await asyncio.sleep(0)


def sweep(
    server: SandboxServer,
    *sinks: Sink,
    clock: RunClock | None = None,
    credentials: Tokens | None = None,
    actors: int = 4,
    beside: Callable[[SandboxServer], Coroutine[Any, Any, None]] = nothing,
) -> int:
    """A live sweep, and something that goes on beside it on the same loop; the exit code."""
    settings = Settings(sandbox=True, max_act_share=1, write_concurrency=actors)
    policy = settings.policy(DeletionPolicy)

    async def run() -> int:
        ticking = clock or a_clock()
        identity = RunIdentity(job="delete-old-runtimes", run_id="r", environment="test", dry_run=False)
        async with a_client(server, ticking, credentials) as leonardo, asyncio.TaskGroup() as group:
            group.create_task(beside(server))
            audit = AuditLog(identity, sinks, now=utc_now)
            running = Running(settings, Task(), ticking, audit, leonardo, Nobody())
            account = Account(running, max_age=policy.max_age)
            listing = Listing(running, account, policy, Scope(), {})
            bounds = Bounds(
                dry_run=False,
                caps=settings.caps,
                expectations=Expectations(allow_empty=False, expect_at_least=0, max_shrink=0.25, allow_shrunken=False),
            )
            sweeping = Sweep(running, account, listing, deletion(leonardo), bounds)
            return await sweeping.run(started(ticking, policy))

    return asyncio.run(run())


def a_clock(deadline: float = 600, request_timeout: float = 5, **clocks: Any) -> RunClock:
    return RunClock(deadline=timedelta(seconds=deadline), request_timeout=timedelta(seconds=request_timeout), **clocks)


def a_client(
    server: SandboxServer,
    clock: RunClock,
    credentials: Tokens | None = None,
    methods: Collection[str] = ("GET", "DELETE"),
) -> Leonardo:
    return Leonardo(
        server.url,
        clock=clock,
        credentials=credentials,
        request_timeout=5,
        read_concurrency=8,
        write_concurrency=16,
        methods=methods,
        user_agent="test",
    )


def started(clock: RunClock, policy: DeletionPolicy) -> events.RunStarted:
    fields = policy.written()
    return events.RunStarted(
        severity=Severity.NOTICE,
        message="started",
        version="0",
        actor=None,
        started_by=None,
        approved_by=None,
        now=clock.now(),
        policy=fields,
        policy_digest=events.policy_digest(fields, ()),
        exemptions=[],
        limits={},
        scope={},
        plan=None,
    )


# promise 1


def test_the_transport_of_a_dry_run_lets_nothing_but_get_out() -> None:
    async def try_to_delete(server: SandboxServer) -> None:
        clock = a_clock()
        async with a_client(server, clock, methods={"GET"}) as leonardo:
            await leonardo.delete_runtime("terra-1", "all-of-us-1", LastExchange(), looked_at=clock.monotonic())

    with serving(SandboxLeonardo([a_machine(1)])) as server:
        with pytest.raises(MethodRefusedError):
            asyncio.run(try_to_delete(server))
        assert calls(server) == []


# promises 3 and 4


def test_the_intent_is_durable_before_the_delete_leaves() -> None:
    memory = Memory()
    with serving(SandboxLeonardo([a_machine(n) for n in range(1, 9)])) as server:
        assert sweep(server, memory) == 0
        deletes = {r.name: r.t for r in server.requests if r.method == "DELETE"}
    assert len(deletes) == 8
    for number, record in enumerate(memory.records):
        if record["event"] == "deletion_requested":
            durable_at = min(at for at, count in memory.durable if count > number)
            assert durable_at < deletes[record["name"]]


@pytest.mark.parametrize(("pause", "looks"), [(10.5, 2), (8.0, 1)])
def test_a_look_older_than_ten_seconds_is_repeated_before_the_delete(pause: float, looks: int) -> None:
    elapsing, once = Elapsing(), iter([pause])

    def dawdle() -> None:
        elapsing.pushed += next(once, 0)

    memory = Memory(dawdle)
    with serving(SandboxLeonardo([a_machine(1)])) as server:
        assert sweep(server, memory, clock=a_clock(monotonic=elapsing)) == 0
        assert calls(server)[1:] == ["get terra-1/all-of-us-1"] * looks + ["delete terra-1/all-of-us-1"]
    assert memory.outcomes() == {"terra-1/all-of-us-1": "deletion_accepted"}


def test_what_changes_while_an_acknowledgement_is_awaited_is_seen_by_the_new_look() -> None:
    elapsing = Elapsing()
    with serving(SandboxLeonardo([a_machine(1, days=10)])) as server:

        def dawdle() -> None:
            elapsing.pushed += 11
            server.users.touch("terra-1", "all-of-us-1")

        memory = Memory(dawdle)
        assert sweep(server, memory, clock=a_clock(monotonic=elapsing)) == 0
        assert "delete terra-1/all-of-us-1" not in calls(server)
    assert memory.outcomes() == {"terra-1/all-of-us-1": "spared"}


def test_a_log_that_makes_two_looks_in_a_row_stale_ends_all_acts() -> None:
    """Acknowledgements that always take 10.1 s: one more look, and no third intent for an act that cannot leave."""
    elapsing = Elapsing()

    def dawdle() -> None:
        elapsing.pushed += 10.1

    memory = Memory(dawdle)
    with serving(SandboxLeonardo([a_machine(1, days=30), a_machine(2, days=20)])) as server:
        assert sweep(server, memory, clock=a_clock(monotonic=elapsing), actors=1) == 6
        assert calls(server) == ["list", "get terra-1/all-of-us-1", "get terra-1/all-of-us-1"]
    assert memory.outcomes() == dict.fromkeys(("terra-1/all-of-us-1", "terra-2/all-of-us-2"), "not_attempted")
    assert sum(b"deletion_requested" in line for line in memory.lines) == 2


def test_a_log_that_makes_one_look_stale_costs_one_more_look() -> None:
    elapsing = Elapsing()
    waits = iter((10.1, 0, 10.1, 0))

    def dawdle() -> None:
        elapsing.pushed += next(waits)

    memory = Memory(dawdle)
    with serving(SandboxLeonardo([a_machine(1, days=30), a_machine(2, days=20)])) as server:
        assert sweep(server, memory, clock=a_clock(monotonic=elapsing), actors=1) == 0
        assert calls(server).count("get terra-1/all-of-us-1") == calls(server).count("get terra-2/all-of-us-2") == 2
    assert set(memory.outcomes().values()) == {"deletion_accepted"}


class Slow(SandboxLeonardo):
    """A service that takes its time over the first looks, by the clock of who asks."""

    elapsing: Elapsing
    slow_looks = 0

    def get(self, project: str, name: str) -> bytes:
        if self.slow_looks:
            self.slow_looks -= 1
            self.elapsing.pushed += 10.1
        return super().get(project, name)


@pytest.mark.parametrize(
    ("slow_looks", "looks", "outcome", "code"), [(2, 3, "deletion_accepted", 0), (3, 3, "failed", 1)]
)
def test_three_looks_that_came_too_late_are_enough(slow_looks: int, looks: int, outcome: str, code: int) -> None:
    service, memory = Slow([a_machine(1)]), Memory()
    service.elapsing, service.slow_looks = Elapsing(), slow_looks
    with serving(service) as server:
        assert sweep(server, memory, clock=a_clock(monotonic=service.elapsing)) == code
        assert calls(server).count("get terra-1/all-of-us-1") == looks
        assert calls(server).count("delete terra-1/all-of-us-1") == (outcome != "failed")
    assert memory.outcomes() == {"terra-1/all-of-us-1": outcome}


@pytest.mark.parametrize(("minutes", "outcome", "code"), [(4, "deletion_accepted", 0), (360, "withheld", 3)])
def test_a_clock_that_steps_forward_behind_the_list_stops_the_run(minutes: int, outcome: str, code: int) -> None:
    stepped, memory = [timedelta(0)], Memory()

    class Stepping(SandboxLeonardo):
        def get(self, project: str, name: str) -> bytes:
            stepped[0] = timedelta(minutes=minutes)
            return super().get(project, name)

    with serving(Stepping([a_machine(1)])) as server:
        assert sweep(server, memory, clock=a_clock(wall=lambda: utc_now() + stepped[0])) == code
        assert ("delete terra-1/all-of-us-1" in calls(server)) is (code == 0)
    assert memory.outcomes() == {"terra-1/all-of-us-1": outcome}


def test_a_list_that_takes_long_shows_no_skew_of_the_clocks() -> None:
    """Its answer is dated while it is made, minutes after it was asked for and minutes before it is there."""
    passed = timedelta(0)
    elapsing, memory = Elapsing(), Memory()
    clock = a_clock(deadline=3600, wall=lambda: utc_now() + passed, monotonic=elapsing)

    async def let_time_pass(server: SandboxServer) -> None:
        nonlocal passed
        await until(lambda: bool(server.requests))
        passed = timedelta(minutes=20)
        elapsing.pushed = passed.total_seconds()

    faults = [
        Fault(call="list", delay=0.2, headers={"Date": f"{utc_now() + timedelta(minutes=10):{HTTP_DATE}}"}),
        Fault(call="any", times=None, headers={"Date": f"{utc_now() + timedelta(minutes=20):{HTTP_DATE}}"}),
    ]
    with serving(SandboxLeonardo([a_machine(1)]), faults=faults) as server:
        assert sweep(server, memory, clock=clock, beside=let_time_pass) == 0
    assert memory.records[-1]["clock_skew_s"] == 0


# a record that cannot be kept


def fail() -> None:
    raise OSError(5, "Input/output error")


def test_without_an_acknowledgement_there_is_no_delete() -> None:
    memory, other = Memory(fail), Memory()
    with serving(SandboxLeonardo([a_machine(n) for n in range(1, 7)])) as server:
        assert sweep(server, memory, other) == 6
        assert "DELETE" not in {r.method for r in server.requests}
    assert set(other.outcomes().values()) == {"not_attempted"}
    assert other.records[-1]["exit_code"] == 6


@pytest.mark.parametrize(("fails_at", "deleted"), [(0, 0), (1, 0), (3, 0), (4, 1), (5, 1), (6, 2)])
def test_a_record_that_cannot_be_written_stops_the_acts_and_the_others_are_still_told(
    fails_at: int, deleted: int
) -> None:
    """The records are: started, two kept, then an intent and an outcome for each of two, finished."""
    fleet = [a_machine(n, days=1) for n in (1, 2)] + [a_machine(n) for n in (3, 4)]
    broken, whole = Memory(fails_at=fails_at), Memory()
    with serving(SandboxLeonardo(fleet)) as server:
        assert sweep(server, broken, whole, actors=1) == 6
        assert [r.method for r in server.requests].count("DELETE") == deleted
    finished = whole.records[-1]
    assert (finished["event"], finished["exit_code"]) == ("run_finished", 6)
    assert finished["listed"] == finished["audited"] == len(whole.outcomes())


# promise 11


def test_no_act_starts_without_the_time_to_settle_it() -> None:
    """20 s are needed (5 s for a request and 15 s beside): with 25 s left the first starts, then none."""
    elapsing = Elapsing()
    clock = a_clock(deadline=25, request_timeout=5, monotonic=elapsing)

    def dawdle() -> None:
        elapsing.pushed += 3

    memory = Memory(dawdle)
    with serving(SandboxLeonardo([a_machine(n, days=60 - n) for n in range(1, 5)])) as server:
        assert sweep(server, memory, clock=clock, actors=1) == 5
        assert [call for call in calls(server) if call.startswith("delete")] == [f"delete {paths(1)[0]}"]
    assert memory.outcomes() == dict(zip(paths(1, 2, 3, 4), ["deletion_accepted"] + ["not_attempted"] * 3, strict=True))
    assert memory.records[-1]["exit_code"] == 5


def test_what_is_in_flight_at_a_signal_is_in_doubt_and_the_rest_not_attempted() -> None:
    clock = a_clock()
    fleet = [a_machine(n, days=60 - n) for n in range(1, 4)]
    memory = Memory()

    async def interrupt(server: SandboxServer) -> None:
        await until(lambda: any(r.call == "delete" for r in server.requests))
        clock.stop_now()

    with serving(SandboxLeonardo(fleet), faults=[Fault(call="delete", hang=True)]) as server:
        assert sweep(server, memory, clock=clock, actors=1, beside=interrupt) == 5
    assert memory.outcomes() == dict(zip(paths(1, 2, 3), ["in_doubt", "not_attempted", "not_attempted"], strict=True))
    assert memory.records[-1]["refused_by"] == []


def test_acts_that_a_signal_cuts_off_do_not_count_as_failures_of_leonardo() -> None:
    clock, memory = a_clock(), Memory()

    async def interrupt(server: SandboxServer) -> None:
        await until(lambda: [r.call for r in server.requests].count("delete") == 12)
        clock.stop_now()

    fleet = [a_machine(n) for n in range(1, 13)]
    with serving(SandboxLeonardo(fleet), faults=[Fault(call="delete", hang=True, times=None)]) as server:
        assert sweep(server, memory, clock=clock, actors=12, beside=interrupt) == 5
    assert set(memory.outcomes().values()) == {"in_doubt"}
    assert memory.records[-1]["refused_by"] == []


def test_an_answer_that_still_comes_after_a_signal_counts() -> None:
    clock, memory = a_clock(), Memory()

    async def interrupt(server: SandboxServer) -> None:
        await until(lambda: any(r.call == "delete" for r in server.requests))
        clock.stop()

    fleet = [a_machine(n, days=60 - n) for n in range(1, 3)]
    with serving(SandboxLeonardo(fleet), faults=[Fault(call="delete", delay=0.3)]) as server:
        assert sweep(server, memory, clock=clock, actors=1, beside=interrupt) == 5
    assert memory.outcomes() == dict(zip(paths(1, 2), ["deletion_accepted", "not_attempted"], strict=True))


@pytest.mark.unmeasured
def test_a_delete_that_was_told_to_come_back_and_then_cut_off_is_in_doubt() -> None:
    clock, memory = a_clock(), Memory()

    async def interrupt(server: SandboxServer) -> None:
        await until(lambda: [r.call for r in server.requests].count("get") == 2)
        clock.stop_now()

    faults = [
        Fault(call="delete", status=503, headers={"Retry-After": "1"}),
        Fault(call="get", skip=1, hang=True),
    ]
    with serving(SandboxLeonardo([a_machine(1)]), faults=faults) as server:
        assert sweep(server, memory, clock=clock, beside=interrupt) == 5
    assert memory.outcomes() == {"terra-1/all-of-us-1": "in_doubt"}


@pytest.mark.parametrize("fault", [Fault(call="list", hang=True), Fault(call="list", drip=0.2)])
def test_a_signal_while_listing_touches_nothing(fault: Fault) -> None:
    clock, memory = a_clock(), Memory()

    async def interrupt(server: SandboxServer) -> None:
        await until(lambda: bool(server.requests))
        clock.stop_now()

    with serving(SandboxLeonardo([a_machine(n) for n in range(1, 9)]), faults=[fault]) as server:
        assert sweep(server, memory, clock=clock, beside=interrupt) == 5
        assert calls(server) == ["list"]
    assert memory.records[-1]["listed"] == memory.records[-1]["audited"]


def test_a_list_that_the_deadline_cuts_off_is_an_unread_inventory() -> None:
    elapsing = Elapsing()
    clock, memory = a_clock(deadline=60, monotonic=elapsing), Memory()

    async def let_time_pass(server: SandboxServer) -> None:
        await until(lambda: bool(server.requests))
        elapsing.pushed += 100

    faults = [Fault(call="list", status=500, delay=0.2)]
    with serving(SandboxLeonardo([a_machine(1)]), faults=faults) as server:
        assert sweep(server, memory, clock=clock, beside=let_time_pass) == 4
    assert memory.records[1]["error"]["message"] == "the deadline came before the list had ended"


class Ponderous(SandboxLeonardo):
    """A service that takes most of two minutes over every deletion, by the clock of who asks."""

    elapsing: Elapsing

    def get(self, project: str, name: str) -> bytes:
        self.elapsing.pushed += 5
        return super().get(project, name)

    def delete(self, project: str, name: str, *, delete_disk: str | None = None) -> None:
        self.elapsing.pushed += 105
        super().delete(project, name, delete_disk=delete_disk)


@pytest.mark.unmeasured
def test_a_leonardo_that_takes_long_over_every_deletion_does_not_make_a_run_miss_its_deadline() -> None:
    """Of 45 min the last act may begin before 43:30: 24 looks and DELETEs of 110 s fit, the rest waits."""
    service, memory = Ponderous([a_machine(n, days=90 - n) for n in range(1, 41)]), Memory()
    service.elapsing = Elapsing()
    clock = a_clock(deadline=2700, request_timeout=75, monotonic=service.elapsing)
    with serving(service) as server:
        assert sweep(server, memory, clock=clock, actors=1) == 5
    assert clock.left() > 0
    assert memory.outcomes() == dict.fromkeys(paths(*range(1, 25)), "deletion_accepted") | dict.fromkeys(
        paths(*range(25, 41)), "not_attempted"
    )
    assert memory.records[-1]["event"] == "run_finished"


def test_whoever_is_told_to_come_back_later_asks_nothing_before() -> None:
    told = Fault(status=429, headers={"Retry-After": "1"}, times=3)
    with serving(SandboxLeonardo([a_machine(n) for n in (1, 2)]), faults=[told]) as server:
        assert sweep(server, Memory()) == 0
        asked = [(r.t, r.status) for r in server.requests]
    for told_at in (t for t, status in asked if status == 429):
        assert not [t for t, _ in asked if told_at + 0.1 < t < told_at + 1]


def test_a_leonardo_that_never_stops_asking_for_patience_does_not_make_a_run_miss_its_deadline() -> None:
    clock, memory = a_clock(deadline=3.5), Memory()
    told = Fault(status=503, headers={"Retry-After": "1"}, times=None)
    with serving(SandboxLeonardo([a_machine(1)]), faults=[told]) as server:
        assert sweep(server, memory, clock=clock) == 4
        assert {r.method for r in server.requests} == {"GET"}
    assert clock.left() > 0
    assert memory.records[-1]["exit_code"] == 4


def test_a_failed_delete_that_has_detached_the_disk_says_so_and_still_names_it() -> None:
    memory = Memory()
    with serving(SandboxLeonardo([a_machine(1)])) as server:
        server.faults.add(Fault(call="delete", status=500, delay=0.1, times=None))

        async def detach(server: SandboxServer) -> None:
            await until(lambda: any(r.call == "delete" for r in server.requests))
            server.leonardo.machine("terra-1", "all-of-us-1").persistent_disk_id = None

        assert sweep(server, memory, beside=detach) == 1
    record = memory.records[-2]
    assert (record["outcome"], record["disk"], record["persistent_disk_id"]) == ("failed", "kept", "1001")
    assert "the failed try has detached its disk 1001, which is kept" in record["message"]


# tokens


def test_a_refused_token_is_renewed_once_for_a_list_and_a_look_and_a_delete_looks_again() -> None:
    memory, tokens = Memory(), Tokens("old", "new")
    with serving(SandboxLeonardo([a_machine(1)]), required_token="new") as server:  # noqa: S106
        assert sweep(server, memory, credentials=tokens) == 0
        assert calls(server) == ["list", "list", *(f"{call} {paths(1)[0]}" for call in ("get", "delete"))]
    tokens, refusal = Tokens("one", "two"), Fault(call="delete", status=401, body="<html>expired</html>")
    with serving(SandboxLeonardo([a_machine(1)]), faults=[refusal]) as server:
        assert sweep(server, memory, credentials=tokens) == 0
        assert [call.split()[0] for call in calls(server)] == ["list", "get", "delete", "get", "delete"]
    assert all(r.authorization for r in server.requests)


def test_a_renewed_token_that_is_refused_too_has_failed() -> None:
    memory, refusal = Memory(), Fault(call="delete", status=401, times=None)
    with serving(SandboxLeonardo([a_machine(1)]), faults=[refusal]) as server:
        assert sweep(server, memory, credentials=Tokens("one", "two", "three")) == 1
        assert [call.split()[0] for call in calls(server)] == ["list", "get", "delete", "get", "delete"]
    assert memory.outcomes() == {"terra-1/all-of-us-1": "failed"}


def test_a_token_that_cannot_be_renewed_is_not_sent_again() -> None:
    with serving(SandboxLeonardo([a_machine(1)]), required_token="other") as server:  # noqa: S106
        assert sweep(server, Memory(), credentials=Tokens("only")) == 4
        assert calls(server) == ["list"]


def test_without_a_token_nothing_is_asked() -> None:
    memory = Memory()
    with serving(SandboxLeonardo([a_machine(1)])) as server:
        assert sweep(server, memory, credentials=Tokens()) == 4
        assert calls(server) == []
    assert memory.records[1]["error"] == {
        "kind": "denied",
        "message": "no access token: the metadata server is away",
        "exception_class": None,
    }


def test_a_page_that_echoes_the_token_does_not_bring_it_into_a_record() -> None:
    memory, secret = Memory(), "ya29.secret"
    echo = Fault(call="delete", status=403, body=f"you sent Bearer {secret}")
    with serving(SandboxLeonardo([a_machine(1)]), faults=[echo]) as server:
        assert sweep(server, memory, credentials=Tokens(secret)) == 1
    assert memory.records[-2]["error"]["message"] == "you sent Bearer [token]"
    assert not [line for line in memory.lines if secret.encode() in line]
    assert memory.records[0]["actor"] is None


# the client's own limits


def look(server: SandboxServer, **clock: Any) -> tuple[Runtime | LeonardoError, LastExchange]:
    async def get() -> tuple[Runtime | LeonardoError, LastExchange]:
        last = LastExchange()
        async with a_client(server, a_clock(**clock)) as leonardo:
            try:
                return (await leonardo.get_runtime("terra-1", "all-of-us-1", last)).runtime, last
            except LeonardoError as error:
                return error, last

    return asyncio.run(get())


def test_an_answer_that_is_far_too_long_is_not_read_to_its_end() -> None:
    faults = [Fault(call="get", status=200, body="x" * (4 * 2**20 + 1))]
    with serving(SandboxLeonardo([a_machine(1)]), faults=faults) as server:
        answer, last = look(server)
    assert isinstance(answer, LeonardoError)
    assert (answer.kind, answer.http_status, last.error) == (ErrorKind.UNREADABLE, 200, answer)


def test_a_body_that_is_not_what_its_encoding_says_is_unreadable() -> None:
    faults = [Fault(call="get", status=200, body="not gzip", headers={"Content-Encoding": "gzip"})]
    with serving(SandboxLeonardo([a_machine(1)]), faults=faults) as server:
        answer, _ = look(server)
    assert isinstance(answer, LeonardoError)
    assert answer.kind is ErrorKind.UNREADABLE


def test_a_redirect_is_not_followed() -> None:
    faults = [Fault(call="get", status=301, headers={"Location": "http://127.0.0.1:9/"})]
    with serving(SandboxLeonardo([a_machine(1)]), faults=faults) as server:
        answer, _ = look(server)
        assert len(server.requests) == 1
    assert isinstance(answer, LeonardoError)
    assert (answer.kind, answer.http_status) == (ErrorKind.REFUSED, 301)


def test_a_malformed_retry_after_is_no_wait() -> None:
    faults = [Fault(call="get", status=429, headers={"Retry-After": "soon"})]
    with serving(SandboxLeonardo([a_machine(1)]), faults=faults) as server:
        answer, _ = look(server)
    assert isinstance(answer, LeonardoError)
    assert answer.kind is ErrorKind.THROTTLED


def test_a_consumer_that_leaves_a_list_early_leaves_it_in_order() -> None:
    async def first_of(server: SandboxServer) -> object:
        async with (
            a_client(server, a_clock()) as leonardo,
            aclosing(leonardo.list_runtimes()) as batches,
        ):
            return await anext(batches)

    with serving(SandboxLeonardo([a_machine(n) for n in range(1, 400)])) as server:
        assert asyncio.run(first_of(server))
        assert calls(server) == ["list"]


class FailsLate(Memory):
    """A sink whose disk is full when all is made durable for the second time, at the end of a run without acts."""

    name = "late"

    async def make_durable(self) -> None:
        if self.durable:
            raise OSError(28, "No space left on device")
        await super().make_durable()


def test_a_sink_that_fails_when_all_else_is_done_is_told_by_the_closing_record() -> None:
    memory = Memory()
    with serving(SandboxLeonardo([a_machine(1, days=1)])) as server:
        assert sweep(server, memory, FailsLate()) == 6
    closing = memory.records[-1]
    assert (closing["event"], closing["exit_code"], closing["outcomes"]) == ("run_finished", 6, {"kept": 1})
