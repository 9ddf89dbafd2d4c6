"""Who is told what of a deletion, once, and what is on record of it."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.rules.notices import Notice, NoticePolicy
from core.sandbox.faults import Fault
from core.sandbox.google_cloud import Google, serving_google
from core.sandbox.leonardo import Leonardo
from core.sandbox.server import SandboxServer, serving
from tests.conftest import Ended, a_machine, aged, calls, delete, finish, on_google, rewritten, start, wait_until
from tests.tls import a_certificate, behind_tls, trusting

ROOT = Path(__file__).parents[1]
Run = Callable[..., Ended]
LOG = Path("audit/all.jsonl")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
PERIOD = ("--notice-period", "24h")


def sweeping(server: SandboxServer, *arguments: str) -> tuple[str, ...]:
    return delete(server, "--audit-file", str(LOG), *PERIOD, *arguments)


def notifying(server: SandboxServer, *arguments: str, live: bool = True) -> tuple[str, ...]:
    receiver = ("--notice-url", f"{server.url}/notices", "--audit-file", str(LOG))
    return ("notify-owners", *delete(server)[1:], *receiver, *PERIOD, *(["--no-dry-run"] if live else []), *arguments)


def came(server: SandboxServer) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{server.url}/sandbox/notices") as answer:  # noqa: S310 - loopback
        return list(json.load(answer))


def words(ended: Ended) -> list[tuple[str, str]]:
    return sorted((record["event"], record["name"]) for record in ended.records if "notice_id" in record)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def a_fleet() -> list[Any]:
    """Due, due in a day by its age, due when idle for long enough, and due much later; of two owners."""
    ada, grace = "ada@example.org", "grace@example.org"
    return [
        a_machine(1, days=20, creator=ada),
        a_machine(2, days=13, idle_hours=1, config_type="GceConfig", creator=ada),
        a_machine(3, days=8, idle_hours=1, creator=grace),
        a_machine(4, days=2, creator=grace),
    ]


@pytest.mark.parametrize(
    ("final_in", "uses"),
    [
        (timedelta(minutes=-1), ""),
        (timedelta(0), ""),
        (timedelta(minutes=1), ", unless somebody uses it before; from 2026-11-20 03:01 UTC on in any case"),
    ],
    ids=str,
)
def test_a_notice_says_from_when_on_a_runtime_may_go_and_when_it_goes_though_it_is_used(
    final_in: timedelta, uses: str
) -> None:
    notice = Notice("7", "terra-1", "a", "ada@example.org", "kept", NOW - DAY, NOW + final_in, NOW)
    assert str(notice) == f"terra-1/a is deleted from 2026-11-20 03:00 UTC on{uses}; its disk stays"


@pytest.mark.parametrize(
    ("disk", "words"),
    [
        ("kept", "its disk stays"),
        ("lost", "what is on the machine is lost"),
        ("detached", "it has no disk to keep"),
        (None, "what becomes of its disk is not known"),
        ("a word of a later version", "what becomes of its disk is not known"),
    ],
)
def test_a_notice_says_what_becomes_of_the_disk(disk: str | None, words: str) -> None:
    notice = Notice("7", "terra-1", "a", None, disk, NOW, NOW, NOW)
    assert str(notice) == f"terra-1/a is deleted from 2026-11-20 03:00 UTC on; {words}"


def test_the_policy_of_notices_says_itself_in_a_sentence() -> None:
    sentence = "tell its owner of each deletion that is due within 2 d"
    assert str(NoticePolicy(notice_ahead=2 * DAY)) == sentence
    assert str(NoticePolicy(notice_ahead=2 * DAY, notice_period=DAY)) == f"{sentence}, at least 1 d before it"


def test_each_owner_is_told_once_of_what_is_due_by_the_times_that_decide(run: Run) -> None:
    with serving(Leonardo(a_fleet())) as server:
        sweep = run(*sweeping(server))
        server.log.reset()
        ended = run(*notifying(server))
        assert calls(server) == ["notice", "notice"]
        told = {event["subject"]: event for event in came(server)}
    assert (ended.code, ended.finished["outcomes"]) == (0, {"notice_requested": 3, "notice_sent": 3})
    assert sorted(told) == ["terra-1/all-of-us-1", "terra-2/all-of-us-2", "terra-3/all-of-us-3"]
    sent = {f"{r['project']}/{r['name']}": r for r in ended.events("notice_sent")}
    for path, event in told.items():
        audited, record, data = sweep.audited[path], sent[path], event["data"]
        assert (event["specversion"], event["source"], event["id"]) == (
            "1.0",
            "/leo-lifecycle/local",
            record["notice_id"],
        )
        assert (data["creator"], data["runtime_id"]) == (audited["creator"], audited["runtime_id"])
        for name in ("due_at", "final_at", "not_before"):
            assert instant(data[name]) == instant(record[name])
        assert instant(record["due_at"]) == instant(audited["due_at"])
        beyond = instant(record["final_at"]) - instant(audited["created_date"]) - 14 * DAY
        assert timedelta(0) < beyond <= timedelta(milliseconds=1)
        assert instant(record["not_before"]) == max(instant(record["due_at"]), instant(event["time"]) + DAY)
        assert instant(event["time"]) <= instant(record["time"])
    assert told["terra-1/all-of-us-1"]["data"]["text"].endswith(" UTC on; its disk stays")
    assert told["terra-2/all-of-us-2"]["data"]["text"].endswith(" UTC on; what is on the machine is lost")
    assert "unless somebody uses it before; from " in told["terra-3/all-of-us-3"]["data"]["text"]
    with serving(Leonardo(a_fleet())) as server:
        again = run(*notifying(server))
        assert (again.code, words(again), calls(server)) == (0, [], [])
    verified = run("review-audit-log", "verify", "--from", "audit", "--output", "json")
    assert verified.code == 0, verified.out


def test_a_dry_run_says_whom_it_would_tell_and_tells_nobody(run: Run) -> None:
    with serving(Leonardo(a_fleet())) as server:
        run(*sweeping(server))
        server.log.reset()
        ended = run(*notifying(server, live=False))
        assert calls(server) == []
        assert words(ended) == [("notice_requested", f"all-of-us-{number}") for number in (1, 2, 3)]
        assert len(run(*notifying(server)).events("notice_sent")) == 3
        table = [word if word != "json" else "table" for word in notifying(server, live=False)]
        assert "0 to be told of: 0 told, 0 not." in run(*table).out


def test_the_intent_is_on_record_before_the_notice_leaves(run: Run, tmp_path: Path) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        run(*sweeping(server))
        server.faults.add(Fault(call="notice", act_first=True, hang=True))
        process = start(*notifying(server), cwd=tmp_path)
        wait_until(lambda: "notice" in [request.call for request in list(server.requests)], process)
        process.kill()
        finish(process)
        assert "notice_requested" in LOG.read_text()
        assert "notice_sent" not in LOG.read_text()
        ended = run(*notifying(server))
        assert words(ended) == [("notice_requested", "all-of-us-1"), ("notice_sent", "all-of-us-1")]
        assert len(came(server)) == 1, "known by its id, it is told once"


def test_without_a_kept_intent_no_notice_leaves_and_where_records_still_go_it_is_said_so(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        run(*sweeping(server))
        server.log.reset()
        with Path("/dev/full").open("w") as full:
            ended = finish(start(*notifying(server), stdout=full))
        assert (ended.code, calls(server)) == (6, [])
    lines = LOG.read_text().splitlines()
    told = [record for record in map(json.loads, lines) if "notice_id" in record]
    assert [record["event"] for record in told] == ["notice_requested", "notice_failed"]
    assert told[-1]["error"]["message"] == "not told, since a record could not be kept"
    assert findings(run, lines) == []


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        (Fault(call="notice", status=503, times=4), True),
        (Fault(call="notice", status=503, times=5), False),
        (Fault(call="notice", status=429, headers={"Retry-After": "0"}), True),
        (Fault(call="notice", reset=True), True),
        (Fault(call="notice", status=400, body='"no such owner"'), False),
        (Fault(call="notice", status=403), False),
    ],
)
def test_what_may_pass_is_tried_again_and_one_who_could_not_be_told_is_told_by_the_next_run(
    run: Run,
    fault: Fault,
    sent: bool,  # noqa: FBT001 - pytest passes it
) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        run(*sweeping(server))
        server.faults.add(fault)
        ended = run(*notifying(server, "--request-timeout", "1s"))
        assert ended.code == (0 if sent else 1)
        assert [event for event, _ in words(ended)] == [
            *(["notice_failed"] * (not sent)),
            "notice_requested",
            *(["notice_sent"] * sent),
        ]
        if not sent:
            assert ended.finished["failed"] == ["terra-1/all-of-us-1"]
            (failed,) = ended.events("notice_failed")
            assert failed["error"]["kind"] in ("unavailable", "refused", "denied")
            assert len(run(*notifying(server)).events("notice_sent")) == 1
        assert len(came(server)) == 1
    assert run("review-audit-log", "verify", "--from", "audit", "--output", "json").code == 0


def test_one_owner_who_cannot_be_told_keeps_no_other_from_it(run: Run) -> None:
    with serving(Leonardo(a_fleet())) as server:
        run(*sweeping(server))
        server.faults.add(Fault(call="notice", status=400))
        ended = run(*notifying(server, "--write-concurrency", "1"))
        assert ended.finished["outcomes"] == {"notice_requested": 3, "notice_sent": 1, "notice_failed": 2}
        of_a_person = " ".join(run("review-audit-log", "runs", "--from", "audit", "--output", "table").out.split())
        assert "notice requested" not in of_a_person, "each notice is counted once"


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-age", "15d"],
        ["--only", "terra-1/all-of-us-1"],
        ["--as-of", "2026-11-20T00:00Z"],
    ],
)
def test_owners_are_told_by_a_run_over_the_whole_fleet_of_now_and_of_this_policy(
    run: Run, arguments: list[str]
) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        run(*sweeping(server, *arguments))
        ended = run(*notifying(server))
        assert (ended.code, ended.finished["refused_by"], came(server)) == (3, ["notices"], [])
        (refused,) = ended.events("run_refused")
        assert "no deletion run of the last 6 h has read the whole fleet under this policy" in refused["detail"]


@pytest.mark.parametrize("blind", [["--project", "terra-2"], ["--expect-at-least", "99"]])
def test_a_later_run_that_did_not_see_the_whole_fleet_keeps_nobody_from_being_told(run: Run, blind: list[str]) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        run(*sweeping(server))
        run(*sweeping(server, *blind))
        assert run(*notifying(server)).finished["outcomes"] == {"notice_requested": 1, "notice_sent": 1}


def test_owners_are_told_of_a_policy_that_was_only_rehearsed_yet(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        assert run(*sweeping(server, "--no-dry-run")).finished["outcomes"] == {"kept": 1}
        run(*sweeping(server, "--max-age", "13d"))
        ended = run(*notifying(server, "--max-age", "13d"))
    assert ended.finished["outcomes"] == {"notice_requested": 1, "notice_sent": 1}


@pytest.mark.parametrize(("hours", "told"), [(5.99, 1), (6.01, 0)])
def test_a_run_of_more_than_six_hours_ago_tells_nothing_of_now(run: Run, hours: float, told: int) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        run(*sweeping(server))
        aged(LOG, timedelta(hours=hours))
        assert len(run(*notifying(server)).events("notice_sent")) == told


@pytest.mark.parametrize(("idle_hours", "told"), [(1.9, 0), (2.1, 1)])
def test_who_is_told_is_due_within_notice_ahead(run: Run, idle_hours: float, told: int) -> None:
    with serving(Leonardo([a_machine(1, days=8, idle_hours=idle_hours)])) as server:
        run(*sweeping(server, "--idle-after", "50h"))
        ended = run(*notifying(server, "--idle-after", "50h"))
        assert len(ended.events("notice_sent")) == told


def test_what_has_left_or_is_on_its_way_out_is_told_to_nobody(run: Run) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2)])) as server:
        server.faults.add(Fault(call="delete", project="terra-2", status=500, times=None))
        run(*delete(server, "--audit-file", str(LOG), "--no-dry-run"))
        sent = run(*(word for word in notifying(server) if word not in PERIOD)).events("notice_sent")
        assert [record["name"] for record in sent] == ["all-of-us-2"]


@pytest.mark.unmeasured
def test_a_new_incarnation_is_told_of_anew(run: Run) -> None:
    told = []
    for number in (1, 1, 9):
        with serving(Leonardo([a_machine(number, project="terra-1", name="all-of-us")])) as server:
            run(*sweeping(server))
            told.append([record["notice_id"] for record in run(*notifying(server)).events("notice_sent")])
    assert told == [["local-1"], [], ["local-9"]]


def test_what_the_job_cannot_do_without_is_a_usage_error(run: Run) -> None:
    with serving(Leonardo([])) as server:
        silent = run(*notifying(server, "--audit-creator", "omit"))
        assert (silent.code, silent.err) == (
            2,
            "leo-lifecycle: audit-creator: omit: nobody can be told of what has no owner on record\n",
        )
        nowhere = run("notify-owners", *delete(server)[1:], "--no-dry-run")
        assert (nowhere.code, nowhere.err) == (2, "leo-lifecycle: notice-url is missing: where are notices posted?\n")
        late = run(*notifying(server, "--notice-period", "49h"))
        assert (late.code, late.err) == (
            2,
            "leo-lifecycle: notice-period: above notice-ahead, so that each deletion would come late\n",
        )
        clear = run(*notifying(server, "--notice-url", "http://mail.example.org"))
        assert clear.code == 2


@pytest.mark.parametrize("status", [None, 404])
def test_to_an_https_url_goes_an_identity_token_of_the_runner(run: Run, tmp_path: Path, status: int | None) -> None:
    certificate = a_certificate(tmp_path / "receiver.pem")
    with serving(Leonardo([a_machine(1)])) as server, behind_tls(server.url, certificate, certificate) as receiver:
        run(*sweeping(server))
        server.log.reset()
        server.faults.add(*[Fault(call="identity", status=status, times=None)] * (status is not None))
        arguments = [*notifying(server), "--auth", "google", "--notice-url", f"{receiver}/notices"]
        variables = on_google(server.url, tmp_path) | trusting(certificate, tmp_path)
        ended = finish(start(*arguments, env=variables))
        asked = [request for request in list(server.requests) if request.call == "identity"]
        posted = [request.authorization for request in list(server.requests) if request.call == "notice"]
    assert f"audience={receiver.replace(':', '%3A').replace('/', '%2F')}" in asked[0].query.replace("://", "%3A%2F%2F")
    if status is None:
        assert (ended.code, posted) == (0, [True]), ended.err
    else:
        assert (ended.code, posted) == (1, [])
        assert [r["error"]["kind"] for r in ended.events("notice_failed")] == ["denied"]


# and what a deletion run makes of it


def later(by: timedelta) -> None:
    """As if all that is on record of notices were so long ago."""

    def change(record: dict[str, Any]) -> None:
        if record["event"] == "notice_sent":
            for name in ("time", "not_before"):
                record[name] = (instant(record[name]) - by).isoformat()

    rewritten(LOG, change)


def deleted(ended: Ended) -> dict[str, tuple[str, str]]:
    return {record["name"]: (record["reason"], record["outcome"]) for record in ended.events("runtime_audited")}


def test_nothing_is_deleted_before_its_owner_was_told_of_it_for_so_long(run: Run) -> None:
    with serving(Leonardo([a_machine(1), a_machine(2, days=3), a_machine(3, days=8)])) as server:
        live = sweeping(server, "--no-dry-run")
        untold = run(*live)
        kept = dict.fromkeys(("all-of-us-1", "all-of-us-3"), ("not_noticed", "kept"))
        kept["all-of-us-2"] = ("within_policy", "kept")
        assert deleted(untold) == kept
        assert untold.finished["reasons"]["not_noticed"] == 2
        upcoming = " ".join(run("review-audit-log", "upcoming", "--from", "audit", "--output", "table").out.split())
        assert upcoming.count("held until its owner has been told in time, then") == 2
        assert "; 2 of all not before their owners have been told in time." in upcoming
        (record,) = [r for r in untold.events("runtime_audited") if r["name"] == "all-of-us-1"]
        assert (record["action"], record["age_s"] > 0) == ("keep", True)
        assert instant(record["due_at"]) < instant(record["judged_at"])
        assert record["message"].endswith("but its owner was not told of its deletion in time")
        run(*notifying(server))
        assert deleted(run(*live)) == kept
        later(23.9 * HOUR)
        assert deleted(run(*live)) == kept
        server.log.reset()
        later(0.2 * HOUR)
        told = run(*live)
        assert deleted(told)["all-of-us-1"] == ("max_age", "deletion_accepted")
        assert deleted(told)["all-of-us-3"] == ("max_age_if_idle", "deletion_accepted")
        assert len([call for call in calls(server) if call.startswith("delete")]) == 2


def a_deletion_that_was_announced(run: Run, *, period: str = "1s") -> list[str]:
    """Its log, line by line: a sweep, the notice, and, when the promised time has come, the deletion."""
    promised = ("--notice-period", period)
    with serving(Leonardo([a_machine(1)])) as server:
        run(*sweeping(server, *promised))
        run(*notifying(server, *promised))
        while not run(*sweeping(server, *promised, "--no-dry-run")).events("deletion_requested"):
            pass
    return LOG.read_text().splitlines()


def findings(run: Run, lines: list[str]) -> list[tuple[str, str]]:
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("".join(f"{line}\n" for line in lines))
    answer = json.loads(run("review-audit-log", "verify", "--from", "audit", "--output", "json").out)
    return [(f["kind"], f["message"].partition(") ")[2]) for r in answer["runs"] for f in r["findings"]]


def test_verify_holds_each_act_to_a_notice_and_why_tells_of_it(run: Run) -> None:
    lines = a_deletion_that_was_announced(run)
    assert findings(run, lines) == []
    story = run("review-audit-log", "why", "terra-1/all-of-us-1", "--from", "audit", "--output", "json").out
    told = [entry["line"] for entry in json.loads(story)["incarnations"][0]["entries"]]
    assert [line[17:21] for line in told if "told researcher" in line or "accepted" in line] == ["told", "Leon"]
    assert run("review-audit-log", "report", "--from", "audit", "--html", "report.html").code == 0
    assert "of the deleted, those of which a notice was sent" in Path("report.html").read_text()
    (requested,) = [line for line in lines if '"event":"notice_requested"' in line]
    (sent,) = [line for line in lines if '"event":"notice_sent"' in line]
    promise = json.loads(sent)["not_before"]

    def off(change: Callable[[str], str]) -> list[str]:
        return [what for _, what in findings(run, [line for line in map(change, lines) if line])]

    silent = off(lambda line: "" if '"job":"notify-owners"' in line else line)
    assert "is deleted, and its owner was not told of it" in silent
    otherwise = off(lambda line: line.replace(promise, "2027-01-01T00:00:00Z") if line == sent else line)
    assert "is another notice than the one that was announced" in otherwise
    postponed = off(lambda line: line.replace(promise, "2027-01-01T00:00:00Z"))
    early = "is deleted before its owner was told of it for so long, or before 2027-01-01 00:00:00Z"
    assert early in postponed
    assert "was told, and no record announced that before" in off(lambda line: "" if line == requested else line)
    assert "was to be told, and what became of that is not on record" in off(lambda line: "" if line == sent else line)


@pytest.mark.unmeasured
def test_notices_are_kept_in_cloud_logging_and_read_from_there(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server, serving_google(Google()) as google:
        there = ("--audit-cloud-log", "projects/p-1/logs/audit", "--google-emulator", google.address)
        period = (*there, "--notice-period", "1s")
        assert deleted(run(*delete(server, *period))) == {"all-of-us-1": ("not_noticed", "kept")}
        receiver = ("--notice-url", f"{server.url}/notices", "--no-dry-run")
        assert len(run("notify-owners", *delete(server)[1:], *period, *receiver).events("notice_sent")) == 1
        while not run(*delete(server, *period, "--no-dry-run")).events("deletion_requested"):
            pass
        assert run("notify-owners", *delete(server)[1:], *period, *receiver).events("notice_sent") == []
        disks = run("check-disks", *delete(server)[1:], *there).events("disk_audited")
        assert [record["left_by_run"] is not None for record in disks] == [True]


def test_each_owner_is_told_by_one_of_several_tasks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Leonardo([a_machine(n, creator=f"r{n}@example.org") for n in range(1, 9)])) as server:
        run(*sweeping(server))
        monkeypatch.setenv("CLOUD_RUN_TASK_COUNT", "2")
        told = []
        for index in ("0", "1"):
            monkeypatch.setenv("CLOUD_RUN_TASK_INDEX", index)
            told.append(
                {record["creator"] for record in run(*notifying(server, live=False)).events("notice_requested")}
            )
    assert (len(told[0] | told[1]), told[0] & told[1]) == (8, set())
    assert all(told)


@pytest.mark.unmeasured
def test_a_notice_of_a_dry_run_or_that_failed_allows_nothing(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        run(*sweeping(server))
        run(*notifying(server, live=False))
        server.faults.add(Fault(call="notice", status=400))
        run(*notifying(server))
        rewritten(LOG, lambda record: record.update(time=(instant(record["time"]) - 3 * DAY).isoformat()))
        assert deleted(run(*sweeping(server, "--no-dry-run"))) == {"all-of-us-1": ("not_noticed", "kept")}


@pytest.mark.unmeasured
def test_a_notice_of_another_incarnation_or_environment_allows_nothing(run: Run) -> None:
    with serving(Leonardo([a_machine(1, project="terra-1", name="all-of-us")])) as server:
        run(*sweeping(server))
        run(*notifying(server))
        later(2 * DAY)
        elsewhere = run(*sweeping(server, "--no-dry-run", "--environment", "elsewhere"))
        assert deleted(elsewhere) == {"all-of-us": ("not_noticed", "kept")}
    with serving(Leonardo([a_machine(2, project="terra-1", name="all-of-us")])) as server:
        assert deleted(run(*sweeping(server, "--no-dry-run"))) == {"all-of-us": ("not_noticed", "kept")}


def test_where_notices_cannot_be_read_the_run_is_refused_and_shows_all(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        nowhere = run(*delete(server, *PERIOD, "--no-dry-run"))
        assert (nowhere.code, nowhere.finished["refused_by"]) == (3, ["notices"])
        (refused,) = nowhere.events("run_refused")
        assert refused["detail"].endswith("records are kept nowhere: name audit-cloud-log or audit-file")
        assert findings(run, nowhere.out.splitlines()) == []
        LOG.write_text('{"schema": "leo-lifecycle/audit/v1", nonsense\n{}\n')
        unread = run(*sweeping(server, "--no-dry-run"))
        assert (unread.code, unread.finished["refused_by"]) == (3, ["notices"])
        assert deleted(unread) == {"all-of-us-1": ("not_noticed", "kept")}
        assert not [call for call in calls(server) if call.startswith("delete")]


def test_without_a_period_nobody_need_be_told(run: Run) -> None:
    with serving(Leonardo([a_machine(1)])) as server:
        assert deleted(run(*delete(server, "--no-dry-run"))) == {"all-of-us-1": ("max_age", "deletion_accepted")}


def test_the_example_of_a_receiver_prints_each_notice_once(run: Run) -> None:
    with (
        serving(Leonardo([a_machine(1, creator="ada@example.org")])) as server,
        subprocess.Popen(
            [sys.executable, ROOT / "deploy/receiver.py"], env={"PORT": "0"}, stdout=subprocess.PIPE, text=True
        ) as receiver,
    ):
        assert receiver.stdout is not None
        url = f"http://127.0.0.1:{receiver.stdout.readline().split()[-1]}"
        run(*sweeping(server))
        assert run(*notifying(server, "--notice-url", url)).code == 0
        rewritten(LOG, lambda record: record.update(environment="") if record["event"] == "notice_sent" else None)
        assert len(run(*notifying(server, "--notice-url", url)).events("notice_sent")) == 1
        receiver.terminate()
        (printed,) = receiver.stdout.read().splitlines()
    assert printed.startswith("to ada@example.org: terra-1/all-of-us-1 is deleted from ")
