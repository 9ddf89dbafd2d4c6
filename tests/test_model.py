"""Users, autopause, time, faults and runs in any order that hypothesis thinks of, and what holds after each step."""

import json
import signal
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec.structs import replace

from core.sandbox.faults import Fault
from core.sandbox.installation import RefusedError
from core.sandbox.machine import Machine, TrueStatus
from core.sandbox.roles import Role
from core.sandbox.server import serving
from jobs.__main__ import main
from tests.conftest import assert_acts_follow_looks, finish, start
from tests.fault_table import FAULTS, SLOW
from tests.test_killed import Deadly

PROJECTS = ("terra-1", "terra-2", "terra-exempt")
NAMES = ("all-of-us-1", "all-of-us-2")
QUICK = sorted(set(FAULTS) - SLOW - {"connection refused", "TLS error", "429 come back in an hour"})
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
PASSING = (timedelta(hours=1), timedelta(hours=5), 3 * DAY, 8 * DAY, 15 * DAY)


def due(machine: Machine, *, give: timedelta) -> bool:
    """Whether the rule deletes it now, told independently; `give` is added to what is known of its age."""
    now = datetime.now(UTC) + give
    age, idle = now - machine.created, now - machine.accessed
    return (
        machine.project != "terra-exempt"
        and machine.all_labels().get("needed") != "yes"
        and machine.status.shown in ("Running", "Stopped")
        and (age > 14 * DAY or (age > 7 * DAY and idle >= timedelta(hours=4)))
    )


class Watched(Deadly):
    """A service that looks at each DELETE that it obeys: was it announced, and is the runtime due."""

    folder: Path
    carried_out: tuple[int, ...] = ()
    unannounced: tuple[int, ...] = ()
    unjust: tuple[int, ...] = ()

    def delete(self, project: str, name: str, *, delete_disk: str | None = None) -> None:
        before = self.machine(project, name)
        was_due = due(before, give=SECOND)
        try:
            super().delete(project, name, delete_disk=delete_disk)
        finally:
            if before.status in (TrueStatus.PRE_DELETING, TrueStatus.DELETED):
                self.carried_out += (before.id,)
                self.unjust += () if was_due else (before.id,)
                self.unannounced += () if before.id in self._announced() else (before.id,)

    def _announced(self) -> set[int]:
        lines = [line for file in self.folder.glob("*.jsonl") for line in file.read_text().splitlines()]
        records = (json.loads(line) for line in lines if line.endswith("}"))
        return {int(r["runtime_id"]) for r in records if r["event"] == "deletion_requested"}


class Installation(RuleBasedStateMachine):
    """One Leonardo, its users, and the runs of the deletion job."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = ExitStack()
        self.folder = Path(self.opened.enter_context(tempfile.TemporaryDirectory()))
        self.service = Watched([])
        self.service.move_takes = timedelta(0)
        self.service.folder = self.folder
        self.server = self.opened.enter_context(serving(self.service))
        self.files = count(1)

    def teardown(self) -> None:
        with self.opened:
            self.all_is_well()
            self.in_the_end_everything_is_confirmed()

    # users, autopause, time

    @initialize(days=st.lists(st.sampled_from((0, 6, 10, 20)), min_size=6, max_size=6))
    def begin(self, days: list[int]) -> None:
        for (project, name), old in zip(product(PROJECTS, NAMES), days, strict=True):
            self.create(project, name, old)

    @rule(project=st.sampled_from(PROJECTS), name=st.sampled_from(NAMES), days=st.sampled_from((0, 6, 10, 20)))
    def create(self, project: str, name: str, days: int) -> None:
        now = datetime.now(UTC)
        if not any((m.project, m.name) == (project, name) for m in self.there()):
            self.service.add(
                Machine(id=self.new_id(), project=project, name=name, created=now - days * DAY, accessed=now)
            )

    @rule(place=st.integers(0), user=st.sampled_from(("touch", "stop", "start", "reset")))
    def use(self, place: int, user: str) -> None:
        self.at(place, lambda m: getattr(self.server.users, user)(m.project, m.name))

    @rule()
    def autopause(self) -> None:
        self.service.pauses_idle = True
        self.service.settle()
        self.service.pauses_idle = False

    @rule(passed=st.sampled_from(PASSING))
    def time_passes(self, passed: timedelta) -> None:
        for machine in self.service.everything():
            machine.created -= passed
            machine.accessed -= passed

    # what goes wrong, and right again

    @rule(
        fault=st.sampled_from(QUICK),
        call=st.sampled_from(("list", "project_list", "get", "delete")),
        times=st.sampled_from((1, 2, None)),
        place=st.integers(0),
    )
    def fault_comes(self, fault: str, call: Any, times: int | None, place: int) -> None:
        def befall(machine: Machine) -> None:
            name = machine.name if call in ("get", "delete") else None
            self.server.faults.add(replace(FAULTS[fault], call=call, times=times, name=name, headers={}))

        self.at(place, befall)

    @rule(users=st.lists(st.sampled_from(("touch", "label", "reset", "stop", "delete")), min_size=4, max_size=4))
    def users_act_between_list_and_look(self, users: list[Any]) -> None:
        """On runtimes that are due by being idle for long enough, and not any more then."""
        self.all_is_well()
        now = datetime.now(UTC)
        for machine, user in zip(self.there(), users, strict=False):
            machine.created, machine.accessed = now - 8 * DAY, now - timedelta(hours=5)
            self.server.faults.add(Fault(call="get", project=machine.project, name=machine.name, user=user))
        self.run("--no-dry-run")
        self.faults_go()  # of two runs one may look before this and act behind it, which nobody can help

    @rule()
    def faults_go(self) -> None:
        self.server.faults.clear()

    @rule(project=st.sampled_from(PROJECTS), role=st.sampled_from(Role))
    def role_changes(self, project: str, role: Role) -> None:
        self.service.roles[project] = role

    @rule()
    def deletions_get_stuck(self) -> None:
        self.service.deletion_takes = None

    @rule()
    def all_is_well(self) -> None:
        self.server.faults.clear()
        self.service.roles.clear()
        self.service.deletion_takes = timedelta(0)

    # runs

    @rule(mode=st.sampled_from(("--no-dry-run", "--dry-run")))
    def run(self, mode: str) -> None:
        assert self.ran(mode) in (0, 1, 3, 4)

    @rule()
    def two_runs_overlap(self) -> None:
        other = start(*self.arguments("--no-dry-run"))
        assert self.ran("--no-dry-run") in (0, 1, 3, 4)
        assert finish(other).code in (0, 1, 3, 4)

    @rule(request=st.integers(1, 6), when=st.sampled_from(("before", "after")))
    def a_run_is_killed(self, request: int, when: str) -> None:
        self.service.known.clear()
        self.service.strikes_at = (self.service.asked + request, when)
        self.service.victim = start(*self.arguments("--no-dry-run"))
        self.service.known.set()
        assert finish(self.service.victim).code in (-signal.SIGKILL, 0, 1, 3, 4)
        self.service.strikes_at = (0, "")

    @rule()
    def two_undisturbed_runs(self) -> None:
        self.all_is_well()
        assert (self.ran("--no-dry-run"), self.ran("--no-dry-run")) == (0, 0)
        self.service.settle()
        assert not [m for m in self.there() if due(m, give=-SECOND)]

    @rule(place=st.integers(0))
    def one_that_always_fails_keeps_no_other_from_its_turn(self, place: int) -> None:
        def fail(machine: Machine) -> None:
            self.all_is_well()
            self.server.faults.add(
                Fault(call="delete", project=machine.project, name=machine.name, status=500, times=None)
            )
            assert self.ran("--no-dry-run") in (0, 1)
            self.service.settle()
            assert {m.id for m in self.there() if due(m, give=-SECOND)} <= {machine.id}

        self.at(place, fail)

    # what must hold

    @invariant()
    def every_deletion_was_just_and_announced(self) -> None:
        assert (self.service.unjust, self.service.unannounced) == ((), ())
        assert len(set(self.service.carried_out)) == len(self.service.carried_out)

    @invariant()
    def every_delete_left_soon_behind_a_look(self) -> None:
        assert_acts_follow_looks(self.server)

    def in_the_end_everything_is_confirmed(self) -> None:
        if self.service.carried_out:
            confirmed = self.folder / "confirmed.jsonl"
            code = main(
                (
                    *("confirm-deletions", "--from", str(self.folder), "--audit-file", str(confirmed)),
                    *("--leonardo-url", self.server.url, "--auth", "none", "--output", "json"),
                )
            )
            records = [json.loads(line) for line in confirmed.read_text().splitlines()]
            told = {r["runtime_id"]: r["outcome"] for r in records if r["event"] == "deletion_confirmed"}
            assert code == 0, told
            assert {str(number) for number in self.service.carried_out} <= set(told)

    # how it is done

    def new_id(self) -> int:
        return max([0, *(m.id for m in self.service.everything())]) + 1

    def there(self) -> list[Machine]:
        return [m for m in self.service.everything() if m.status is not TrueStatus.DELETED]

    def at(self, place: int, act: Callable[[Machine], object]) -> None:
        machines = sorted(self.there(), key=lambda m: m.id)
        if machines:
            try:
                act(machines[place % len(machines)])
            except RefusedError as refusal:
                note(f"refused: {refusal}")

    def arguments(self, mode: str) -> tuple[str, ...]:
        until = f"{datetime.now(UTC) + DAY:%Y-%m-%d}"
        matches = ({"project": "terra-exempt"}, {"label": "needed=yes"})
        exemptions = [{"match": match, "until": until, "reason": "x"} for match in matches]
        return (
            *("delete-old-runtimes", mode, "--leonardo-url", self.server.url, "--auth", "none", "--output", "json"),
            *("--audit-file", str(self.folder / f"{next(self.files)}.jsonl"), "--exemptions", json.dumps(exemptions)),
            *("--request-timeout", "10s", "--allow-empty"),
        )

    def ran(self, mode: str) -> int:
        code = main(self.arguments(mode))
        note(f"exit code {code}")
        return code


ANY_SPEED = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # runs that overlap do not fail twice alike: no shrinking
)


def test_whatever_users_faults_and_runs_do_no_deletion_is_unjust_or_unaccounted_for() -> None:
    run_state_machine_as_test(Installation, settings=settings(ANY_SPEED, max_examples=8, stateful_step_count=20))


@pytest.mark.chaos
def test_the_same_for_longer() -> None:
    run_state_machine_as_test(Installation, settings=settings(ANY_SPEED, max_examples=80, stateful_step_count=30))
