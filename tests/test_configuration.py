"""Settings as an operator meets them: absurd ones are refused before any call, the effective ones are shown."""

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.settings.deployment import read_environment
from core.settings.fields import Settings
from core.settings.projects import NAME
from core.settings.reading import load_settings, origins
from core.settings.shown import show_settings
from jobs.__main__ import main
from tests.conftest import Ended

Run = Callable[..., Ended]
NOW = datetime(2026, 11, 24, tzinfo=UTC)
DURATIONS = [name for name, field in Settings.model_fields.items() if field.annotation is timedelta]
NO_DURATION = ("0", "7", "0d", "-1d", "P", "-P1D", "1e3d", "nan", "14 days", "99999d", "../x")
NO_COUNT = ("0", "-1", "1.5", "many", "1e2", "0x10")
NO_YES = ("2", "maybe", "-1")
ABSURD: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*DURATIONS, "notice_period"), NO_DURATION),
    "environment": ("x" * 101,),
    "leonardo_url": (
        "ftp://127.0.0.1",
        "127.0.0.1",
        "https://user:s3cr3t@example.org",
        "https://example.org?token=s3cr3t",
        "http://example.org",
        "https://example.org:99999",
        "https://[::1",
        "https://exa mple.org",
        "http://[::1]evil.com",
        "https://[::1]evil.com",
    ),
    "sandbox": NO_YES,
    "auth": ("basic", "GOOGLE"),
    "projects": ("", ",", " , ", "terra-1,Terra 2"),
    "projects_file": ("", ".", "missing", "empty"),
    "only": ("", "terra-1", "/x", "a/", ","),
    "inventory": (".", "missing"),
    "dry_run": NO_YES,
    "as_of": ("yesterday", "2026-13-01", "2026-11-24T12:00", "0", "9" * 30),
    "spare_possibly_busy": NO_YES,
    "delete_errored": NO_YES,
    "stop_overdue": NO_YES,
    "exemptions": (
        "",
        ".",
        "missing",
        "[1]",
        "{}",
        "[{}]",
        '[{"match": {}, "until": "2026-12-01", "reason": "x"}]',
        "[[[",
    ),
    "notice_url": ("ftp://127.0.0.1", "http://example.org", "https://exa mple.org"),
    "at_most": NO_COUNT,
    "except": ("", "terra-1", "/x", "a/", ","),
    "max_acts": NO_COUNT,
    "max_act_share": ("0", "-0.1", "1.01", "nan", "inf", "25%"),
    "allow_empty": NO_YES,
    "allow_shrunken": NO_YES,
    "max_shrink": ("-0.1", "1", "nan", "inf", "25%"),
    "expect_at_least": ("-1", "1.5", "many"),
    "plan": ("", ".", "missing", "empty"),
    "read_concurrency": (*NO_COUNT, "17"),
    "write_concurrency": (*NO_COUNT, "17"),
    "audit_file": (".", "empty/x"),
    "audit_cloud_log": ("x", "projects/p/logs/a b", "projects//logs/n"),
    "google_emulator": ("example.org:80", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:-1"),
    "started_by": ("x" * 201,),
    "approved_by": ("x" * 201,),
    "audit_creator": ("hash",),
    "output": ("yaml",),
    "log_level": ("debug", "5"),
}
FREE_WORDS = {"impersonate_service_account", "google_project", "google_region"}
"""Of which only Google knows whether they are absurd."""


def test_each_setting_has_its_absurd_values() -> None:
    assert set(ABSURD) | FREE_WORDS == set(Settings.model_fields)


@pytest.fixture
def unasked(tmp_path: Path) -> Any:
    """Where nobody may connect to, beside an empty file."""
    (tmp_path / "empty").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.unmeasured
@pytest.mark.parametrize("source", ["variable", "file"])
@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_value_is_told_in_clear_lines_and_nothing_is_called(
    name: str, source: str, run: Run, unasked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"dry_run": "false", "leonardo_url": unasked, "auth": "none", "output": "json"}
    where = ("--config", "config.yaml")
    for value in ABSURD[name]:
        settings = {**others, name: value}
        (tmp_path / "config.yaml").write_text("".join(f"{key}: '{text}'\n" for key, text in settings.items()))
        if source == "variable":
            monkeypatch.setenv(f"LIFECYCLE_{name.upper()}", value)
        ended = run("delete-old-runtimes", *where)
        assert (ended.code, ended.out) == (2, ""), (value, ended.err)
        lines = ended.err.splitlines()
        assert all(line.startswith("leo-lifecycle: ") for line in lines), lines
        assert any(name in line.lower().replace("-", "_") for line in lines), lines
        assert "s3cr3t" not in ended.err


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- max_age", "holds no settings"),
        ("max_aeg: 14d", "did you mean max_age"),
        ("max_age: [14d]", "is no duration"),
        ("max_age: {a: b}", "is no duration"),
        ("max_acts: [1]", "max_acts in config.yaml"),
        ("\x00", "no readable YAML"),
        ("&a [*a]", "no readable YAML"),
        ("[" * 1_000, "no readable YAML"),
        ("max_age: 14d\nmax_age: 15d", "written twice"),
        ("token: ya29.s3cr3t", "unknown setting"),
        ("leonardo_url: https://user:s3cr3t@example.org", "leonardo_url in config.yaml"),
    ],
)
def test_an_absurd_config_file_is_told_in_clear_lines_and_nothing_is_called(
    text: str, fault: str, run: Run, unasked: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(text)
    url = () if "leonardo_url" in text else ("--leonardo-url", unasked)
    ended = run("delete-old-runtimes", "--no-dry-run", "--auth", "none", *url, "--config", "config.yaml")
    assert (ended.code, ended.out) == (2, "")
    assert fault in ended.err
    assert "s3cr3t" not in ended.err
    assert "Traceback" not in ended.err


# --show-config


JOBS_WITH_SETTINGS = ["delete-old-runtimes", "check-autopause", "confirm-deletions", "check-disks", "notify-owners"]


def told(ended: Ended) -> dict[str, list[str]]:
    """What is shown of each setting: its value, and where it came from."""
    assert (ended.code, ended.err) == (0, "")
    lines = dict(line.removeprefix("# ").split(":", 1) for line in ended.out.splitlines())
    return {name: [part.strip() for part in line.rsplit("  # ", 1)] for name, line in lines.items()}


@pytest.mark.parametrize("job", JOBS_WITH_SETTINGS)
def test_the_settings_are_shown_with_their_origins_and_nothing_is_called(
    job: str, run: Run, unasked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text("deadline: 30m\nrequest_timeout: 20s\nstuck-after: 3h\nplan_max_age: ''\n")
    monkeypatch.setenv("LIFECYCLE_REQUEST_TIMEOUT", "PT30S")
    monkeypatch.setenv("LIFECYCLE_ENVIRONMENT", "test")
    flags = ("--leonardo-url", unasked, "--environment", "a: b # c", "--auth=none", "--config", "config.yaml")
    shown_ = told(run(job, *flags, "--show-config"))
    assert shown_["environment"] == ["'a: b # c'", "--environment"]
    assert shown_["request_timeout"] == ["30s", "LIFECYCLE_REQUEST_TIMEOUT"]
    assert shown_["deadline"] == ["30m", "deadline in config.yaml"]
    assert shown_["audit_file"] == ["", "default"]
    assert shown_["read_concurrency"] == ["8", "default"]


def test_a_review_shows_where_it_would_read_and_needs_no_question(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_AUDIT_CLOUD_LOG", "projects/p/logs/n")
    assert told(run("review-audit-log", "--show-config", "--google-emulator", "127.0.0.1:1")) == {
        "audit_cloud_log": ["projects/p/logs/n", "LIFECYCLE_AUDIT_CLOUD_LOG"],
        "google_emulator": ["'127.0.0.1:1'", "--google-emulator"],
    }
    folder = Path(__file__).parents[1] / "deploy/environments"
    named = told(run("review-audit-log", "--show-config", "--env", "prod", "--environments", str(folder)))
    assert named["audit_cloud_log"] == [read_environment(folder / "prod.yaml").audit_log, f"{folder}/prod.yaml"]


def test_a_start_shows_what_the_execution_will_be_told_and_needs_no_job(run: Run) -> None:
    folder = Path(__file__).parents[1] / "deploy/environments"
    start = ("start", "--environments", str(folder), "--show-config")
    shown_ = told(run(*start, "--env", "prod", "--max-acts", "7", "--google-emulator", "localhost:1"))
    assert shown_["max_acts"] == ["7", "--max-acts"]
    assert shown_["max_age"] == ["14d", f"max_age in {folder}/prod.yaml"]
    assert shown_["dry_run"] == ["true", "--dry-run"]
    assert told(run(*start, "--env", "prod", "--no-dry-run"))["dry_run"] == ["false", "--dry-run"]
    assert shown_["stuck_after"] == ["2h", "default"]
    assert shown_["google_emulator"] == ["'localhost:1'", "--google-emulator"]
    assert told(run(*start, "--env", "prod", "--max-age", "13d"))["max_age"] == ["13d", "--max-age"]
    nowhere = run(*start)
    assert (nowhere.code, nowhere.err) == (2, "leo-lifecycle: --env: the settings of which environment?\n")
    absurd = run(*start, "--env", "prod", "--max-acts", "0")
    assert (absurd.code, absurd.out) == (2, "")


def test_a_command_that_cannot_act_shows_no_settings_to_act_by() -> None:
    assert main(("--pin", "dry-run=yes", "delete-old-runtimes", "--sandbox", "--no-dry-run", "--show-config")) == 2


ANY = st.characters(exclude_categories=["Cs"])
SOME = {
    "max_age": st.sampled_from(["14d", "PT400H", "PT1209600.5S"]),
    "max_act_share": st.floats(0.01, 1).map(str),
    "allow_empty": st.sampled_from(["true", "false"]),
    "projects": st.lists(st.from_regex(NAME, fullmatch=True), min_size=1),
    "environment": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100),
    "started_by": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200),
    "as_of": st.sampled_from(["2026-11-20", "2026-11-20T03:00:00.5+05:30"]),
    "exemptions": st.just(
        '[{"match": {"project": "terra-*", "label": ["a=b*", "c=#"]}, "until": "2026-12-20", "reason": "x: # y"}]'
    ),
}


@given(st.fixed_dictionaries({}, optional=SOME))
@example({"environment": "a\nb\r\vc\x1cd\x85e\u2028f\u2029"})
@example({"started_by": "\n"})
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_shown_is_a_config_file_that_says_the_same(tmp_path: Path, flags: dict[str, Any]) -> None:
    given_ = {"sandbox": True, **flags}
    settings = load_settings(given_, None, NOW)
    text = show_settings(settings, Settings.model_fields, origins(given_))
    assert len(text.splitlines()) == len(Settings.model_fields)
    (tmp_path / "shown.yaml").write_text(text)
    assert load_settings({}, tmp_path / "shown.yaml", NOW).model_dump() == settings.model_dump()
