"""Known breaks of the program, each put into a copy of the tree: how many runs are lived until it is found.

`python -m tests.lives.breaks` writes the table into benchmarks/README.md, and ends in 1 where one is not found; with
words, it only says of those whose name holds one. Within a copy `--in-this-tree` lives until something goes wrong.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.lives.history import life_of
from tests.lives.living import live, quietly

ROOT = Path(__file__).parents[2]
WITHIN = int(os.environ.get("WITHIN") or "100000")
"""Runs in which each must be found."""
TIMES = int(os.environ.get("TIMES") or "3")
"""How often each is looked for, from seeds far apart."""
FAR_APART = 10**7
UNBROKEN = 1000
"""Runs that the program as it is must live from each of those seeds, or every break would seem to be found."""
HERE = "--in-this-tree"
PAGE, HEADING = ROOT / "benchmarks/README.md", "### Known breaks\n"


class Break(NamedTuple):
    """A small change to one file of the program."""

    name: str
    path: str
    was: str
    becomes: str


SPARED = "return Outcome.SPARED if case.judge_again(looked, self._clock.now()) is Action.KEEP else None"
TREATMENT, CLIENT, ACCOUNT = "core/run/treatment.py", "core/leonardo/client.py", "core/run/account.py"
CALLING = "core/leonardo/calling.py"
DELETION, LISTING, GUARDS = "core/rules/deletion.py", "core/run/listing.py", "core/rules/guards.py"
UNCONFIRMED, WRITER, CLOCK = "core/review/unconfirmed.py", "core/records/writer.py", "core/clock.py"
PREVIOUS, SWEEP, TURNS = "core/run/previous.py", "core/run/sweep.py", "core/run/turns.py"
EVIDENCE, TELLING = "core/rules/evidence.py", "core/run/notices.py"
EXIT_CODE, CONFIRMING = "core/exit_code.py", "core/run/confirmation.py"
BREAKS = (
    Break(
        "the second look's verdict is ignored",
        TREATMENT,
        SPARED,
        "return None if case.judge_again(looked, self._clock.now()) else None",
    ),
    Break("the id is not compared", TREATMENT, "if looked.id != case.runtime.id:", "if False:"),
    Break("no intent before the act", TREATMENT, "await self._announce(case, look)\n", "pass\n"),
    Break(
        "the intent is not made durable",
        TREATMENT,
        "self._audit.write(case.intent(self._act.intent))\n        await self._audit.commit()",
        "self._audit.write(case.intent(self._act.intent))",
    ),
    Break("a look stays fresh for a minute", CALLING, "LOOK_GOES_STALE = 10.0", "LOOK_GOES_STALE = 60.0"),
    Break(
        "a look counts from its answer",
        "core/leonardo/exchange.py",
        "sent = departure.sent\n",
        "sent = self._clock.monotonic()\n",
    ),
    Break("a dry run acts", TREATMENT, "if self._dry_run:", "if False:"),
    Break(
        "a guard that trips meanwhile holds back nothing",
        CALLING,
        "self._acts_stopped = True",
        "self._acts_stopped = False",
    ),
    Break(
        "what was found on its way is not known as done",
        TREATMENT,
        "if case.maybe_done and looked.status in self._act.done:",
        "if False:",
    ),
    Break(
        "an act without an answer counts as not carried out",
        TREATMENT,
        "if sent and error.kind in MAYBE_DONE:",
        "if False:",
    ),
    Break(
        "a 404 counts as gone",
        TREATMENT,
        "return Next.ASK_LISTS if unsettled else Outcome.FAILED\n",
        "return Outcome.GONE if unsettled else Outcome.FAILED\n",
    ),
    Break(
        "what is listed counts as gone",
        "core/rules/evidence.py",
        "if asked.runtime_id in self.runtimes:",
        "if False:",
    ),
    Break(
        "an empty list of a project counts as seen",
        "core/rules/evidence.py",
        "return Evidence.PROJECT_SEEN if self.others else Evidence.UNLISTED",
        "return Evidence.PROJECT_SEEN",
    ),
    Break("Leonardo's clock is not compared at a look", TREATMENT, "clock_refusals(look.skew)", "clock_refusals(None)"),
    Break("clocks are never compared", GUARDS, "if skew is not None and abs(skew) >", "if False and abs(skew) >"),
    Break("the skew of a look is not told", TREATMENT, "self._leonardo.clock_skew = look.skew", "pass"),
    Break("an empty inventory is believed", GUARDS, "if seen.listed == 0 and not self.allow_empty:", "if False:"),
    Break("the cap on acts is inert", GUARDS, "if acts > self.max_acts:", "if False:"),
    Break("a cap for each task", GUARDS, "max_acts=-(-self.max_acts // tasks)", "max_acts=self.max_acts"),
    Break("time left is not asked before an act", CLOCK, ">= self._request_timeout + SETTLING", ">= 0"),
    Break("a signal stops nothing", CLOCK, "self._signalled.set()\n            self._close_in(GRACE)", "pass"),
    Break("Retry-After is not obeyed", CALLING, "self._hold_until = max(", "_ = max("),
    Break("reads are not limited", CALLING, "asyncio.Semaphore(read_concurrency)", "asyncio.Semaphore(99)"),
    Break("the disk goes with its runtime", CLIENT, "?deleteDisk=false", "?deleteDisk=true"),
    Break("a list that breaks off is believed", CLIENT, "if begun:", "if begun:\n                        return\n"),
    Break("exemptions spare nobody", DELETION, "if reason is None and exemption is not None", "if False and exemption"),
    Break("exemptions never lapse", "core/rules/exemptions.py", "return self.until <= instant", "return False"),
    Break(
        "idle begins a minute early",
        DELETION,
        "if idle >= self.idle_after and",
        "if idle * 1.01 >= self.idle_after and",
    ),
    Break(
        "exactly the maximum age, or a minute less",
        DELETION,
        "if age > self.max_age:",
        "if age * 1.001 > self.max_age:",
    ),
    Break("nobody is too old", DELETION, "if age > self.max_age:", "if False:"),
    Break("busy kernels are not spared", DELETION, "self.spare_possibly_busy\n", "False\n"),
    Break(
        "any status may go",
        DELETION,
        "if reason is None and not (runtime.status in ELIGIBLE",
        "if False and not (False",
    ),
    Break("the plan is not held to", SWEEP, "elif plan is not None and not plan.allows(case.runtime):", "elif False:"),
    Break("excepted ones are acted on", SWEEP, "if case.runtime.path in excepted:", "if False:"),
    Break("at-most is for show", SWEEP, "condemned[: bounds.at_most]", "condemned[:]"),
    Break("only is for show", LISTING, "if path in only]", "if path or only]"),
    Break("kept runtimes go unrecorded", LISTING, "if kept:\n", "if len(kept) < 4:\n"),
    Break("failures do not come last", TURNS, "if case.failed_before is None)\n", ")\n"),
    Break(
        "the most overdue go last",
        SWEEP,
        "sorted(self._narrow(condemned), key=in_turn)",
        "sorted(self._narrow(condemned), key=in_turn, reverse=True)",
    ),
    Break("failures of acts are no failures", ACCOUNT, "failed=any(self._failed.values())", "failed=False"),
    Break("a lost record is not told", EXIT_CODE, "if unrecorded:", "if False:"),
    Break("stopped early is not told", EXIT_CODE, "if stopped and (signalled or not nothing_read):", "if False:"),
    Break("an unread inventory is a failure like others", EXIT_CODE, "if nothing_read:", "if False:"),
    Break("a sink that fails is dropped in silence", WRITER, "self.failure = f", "_ = f"),
    Break("the digest is of half the records", WRITER, "self._digest.update(", "seq % 2 and self._digest.update("),
    Break("the chain goes back to the first run", PREVIOUS, "newest = max(closings,", "newest = min(closings,"),
    Break(
        "a deletion under way is confirmed",
        "core/rules/confirmation.py",
        "if state is None or state.status == RuntimeStatus.DELETED:",
        "if state is None or state.status == RuntimeStatus.DELETING:",
    ),
    Break(
        "nobody asks about killed runs",
        UNCONFIRMED,
        "if end is None:\n        return True",
        "if end is None:\n        return False",
    ),
    Break(
        "a later run closes a killed one's case",
        UNCONFIRMED,
        "if end is None or end.outcome in",
        "if True or end.outcome in",
    ),
    Break(
        "a confirmed deletion is asked about for ever",
        UNCONFIRMED,
        "reversed(confirmations) if record.outcome in ENDS)",
        "reversed(confirmations) if False)",
    ),
    Break("a streak of failures stops nothing", GUARDS, "FAILURES_IN_A_ROW = 10", "FAILURES_IN_A_ROW = 10**6"),
    Break(
        "a shrunken inventory is believed",
        GUARDS,
        "if not self.allow_shrunken and self.expected is not None:",
        "if False:",
    ),
    Break("the cap on the share is inert", GUARDS, "if acts > self.small_run and", "if False and"),
    Break("acts wait for no notice", DELETION, "return self.notices.get(runtime.id, NEVER) <= at", "return True"),
    Break(
        "an owner is told before it is on record",
        TELLING,
        "await self._running.audit.commit()\n            await self._receiver",
        "await self._receiver",
    ),
    Break(
        "owners are told again",
        "core/review/notices.py",
        "        and record.runtime_id not in told\n",
        "",
    ),
    Break(
        "an owner who could not be told counts as told",
        TELLING,
        "except LeonardoError as failed:\n            error = failed",
        "except LeonardoError:\n            self._note(events.NoticeSent, told)\n            return",
    ),
    Break("what is listed twice is judged twice", LISTING, "not self._seen.add(int(runtime.id))", "False"),
    Break("a row of another project is acted on", LISTING, "runtime.project != project:", "False:"),
    Break(
        "a row of another project shows the project",
        EVIDENCE,
        "isinstance(item, Runtime) and item.project == self.project",
        "isinstance(item, Runtime)",
    ),
    Break("many are believed gone without evidence", EVIDENCE, "return unlisted > most and", "return False and"),
    Break(
        "many are confirmed without evidence",
        "core/rules/confirmation.py",
        "return too_many_unlisted(",
        "return False and too_many_unlisted(",
    ),
    Break(
        "a rehearsal looks at nothing again",
        TREATMENT,
        "                return self._given_up(case, stopped)\n            look =",
        "                return self._given_up(case, stopped)\n            if self._dry_run:\n"
        "                return self._act.would\n            look =",
    ),
    Break(
        "the promise counts what is going",
        "core/review/promise.py",
        "or record.outcome in ENDED or",
        "or",
    ),
    Break(
        "the promise forgets what no rule condemned",
        "core/review/promise.py",
        "breaks=kept != Reason.EXEMPT and",
        'breaks=record.action != "keep" and',
    ),
    Break(
        "what was confirmed is never asked about again",
        UNCONFIRMED,
        "if not announced and end.evidence != Evidence.UNLISTED:",
        "if True:",
    ),
    Break(
        "lists are asked for as often as they fail",
        CALLING,
        "stop=lambda _: call.tries >= TRIES",
        "stop=lambda _: call.tries >= 99",
    ),
    Break("an unattached disk is attached", "core/run/disks.py", "attached=int(disk.id) in attached", "attached=True"),
    Break(
        "disks are not asked for",
        CONFIRMING,
        "return self.seen.disks is None and self.state is None and",
        "return False and",
    ),
)


class Row(NamedTuple):
    """After how many runs a break was found, each time."""

    name: str
    times: list[int | None]

    @property
    def median(self) -> float:
        """Not found is later than everything."""
        return median(WITHIN if time is None else time for time in self.times)

    def __str__(self) -> str:
        most = "not found" if None in self.times else f"{max(time or 0 for time in self.times):,}"
        return f"| {self.name} | {self.median:,.0f} | {most} |"


def lived(start: int, within: int = WITHIN) -> int | None:
    """The runs that were lived until something went wrong."""
    runs, seed = 0, start
    with quietly() as folder:
        while runs < within:
            try:
                result = live(life_of(seed), folder)
            except Exception:  # noqa: BLE001 - the program itself fell
                return runs + 1
            runs += result.runs
            if result.violation is not None:
                return runs
            seed += 1
    return None


def found(broken: Break) -> list[int | None]:
    """After how many runs, each time that it is looked for."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("core", "jobs", "tests"):
            shutil.copytree(ROOT / name, Path(folder) / name)  # with what is compiled, which takes longer than most
        path = Path(folder) / broken.path
        path.write_text(path.read_text().replace(broken.was, broken.becomes))
        command = [sys.executable, "-m", "tests.lives.breaks", HERE]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return [None if word == "never" else int(word) for word in ended.stdout.split()]


def main(words: list[str]) -> int:
    """How it ends."""
    if words == [HERE]:
        for time in range(TIMES):
            runs = lived(1 + time * FAR_APART)
            say("never" if runs is None else str(runs))
        return 0
    if any(lived(1 + time * FAR_APART, UNBROKEN) for time in range(TIMES)):
        say("The program goes wrong as it is: mend that first (make simulate).")
        return 1
    rows = []
    for broken in BREAKS:
        if not words or any(word in broken.name for word in words):
            rows.append(Row(broken.name, found(broken)))
            say(str(rows[-1]))
    if not words:
        PAGE.write_text(PAGE.read_text().partition(HEADING)[0] + page_of(rows))
    return int(any(None in row.times for row in rows))


def page_of(rows: list[Row]) -> str:
    """What is said of all."""
    medians = sorted(row.median for row in rows)
    most = max((time for row in rows for time in row.times if time is not None), default=0)
    missed = sum(None in row.times for row in rows)
    half, last = f"{medians[len(medians) // 2]:,.0f}", f"{most:,}"
    return f"""{HEADING}
`TIMES={TIMES} python -m tests.lives.breaks` puts each into a copy of the tree and lives there until something goes
wrong, {TIMES} times from seeds far apart; it has written this page from here on. Of {len(rows)} breaks {missed} were
not found within {WITHIN:,} runs. Half of them were found within {half} runs, the last after {last}.

| break | runs until it is found, median | most |
|---|---|---|
""" + "".join(f"{row}\n" for row in rows)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
