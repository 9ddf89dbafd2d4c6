"""Settings: how values are read, which source wins, and what is said of those that cannot be used."""

import argparse
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.rules.autopause import AutopausePolicy
from core.rules.deletion import DeletionPolicy
from core.rules.exemptions import Exemption
from core.rules.guards import Caps
from core.settings.addresses import host_of, is_loopback
from core.settings.durations import format_duration, parse_duration, parse_instant
from core.settings.faults import REPEATED_FLAGS, UsageError, flag_of
from core.settings.fields import Settings
from core.settings.flags import METAVARS, add_flags
from core.settings.reading import load_settings
from core.settings.yaml_text import load_yaml

NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
LEO = "https://leo.example.org"
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)

# What is None has no default.
DEFAULTS: dict[str, object] = {
    "environment": "local",
    "leonardo_url": None,
    "sandbox": False,
    "auth": "google",
    "impersonate_service_account": None,
    "projects": None,
    "projects_file": None,
    "only": None,
    "except": None,
    "at_most": None,
    "inventory": None,
    "dry_run": True,
    "as_of": None,
    "max_age": timedelta(days=14),
    "max_age_if_idle": timedelta(days=7),
    "idle_after": timedelta(hours=4),
    "spare_possibly_busy": False,
    "delete_errored": False,
    "exemptions": (),
    "notice_url": None,
    "notice_ahead": timedelta(hours=48),
    "notice_period": None,
    "max_acts": 500,
    "max_act_share": 0.25,
    "allow_empty": False,
    "expect_at_least": 0,
    "max_shrink": 0.25,
    "allow_shrunken": False,
    "plan": None,
    "plan_max_age": timedelta(hours=24),
    "deadline": timedelta(minutes=45),
    "request_timeout": timedelta(seconds=75),
    "read_concurrency": 8,
    "write_concurrency": 4,
    "audit_file": None,
    "audit_cloud_log": None,
    "google_project": None,
    "google_region": None,
    "google_emulator": None,
    "started_by": None,
    "approved_by": None,
    "audit_creator": "plain",
    "output": "auto",
    "log_level": "INFO",
    "autopause_max_threshold": timedelta(days=10),
    "autopause_margin": timedelta(minutes=15),
    "kernel_busy_limit": timedelta(hours=24),
    "stuck_after": timedelta(hours=2),
    "stop_overdue": False,
}


def load(config: Path | None = None, **flags: object) -> Settings:
    """Settings of a run against an installation, unless `leonardo_url` says otherwise."""
    return load_settings({"leonardo_url": LEO, **flags}, config, NOW)


def faults(config: Path | None = None, **flags: object) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        load(config, **flags)
    return caught.value.faults


def faults_without_url(config: Path | None = None, **flags: object) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        load_settings(flags, config, NOW)
    return caught.value.faults


def changed(settings: Settings) -> dict[str, object]:
    """What is not as it is by default."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    return {name: value for name, value in values.items() if value != DEFAULTS[name]}


def a_file(tmp_path: Path, content: object, name: str = "settings.yaml") -> Path:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def entry(**changes: object) -> dict[str, object]:
    """An exemption as it is written; None leaves a field out."""
    fields = {"match": {"project": "terra-*"}, "until": "2026-12-01", "reason": "workshop", **changes}
    return {name: value for name, value in fields.items() if value is not None}


def exemptions_of(*entries: object) -> tuple[Exemption, ...]:
    return load(exemptions=json.dumps(entries)).exemptions


NOTHING = "no blanks, quotes, braces, commas or slashes; one pattern an entry"
NO_ADDRESS = "it is no e-mail address, and no pattern of one"
WORKSHOP = Exemption(until=DECEMBER, reason="workshop", project="terra-*")


# Durations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("14d", timedelta(days=14)),
        ("4h", timedelta(hours=4)),
        ("30m", timedelta(minutes=30)),
        ("36s", timedelta(seconds=36)),
        ("1s", timedelta(seconds=1)),
        ("36500d", timedelta(days=36_500)),
        ("3153600000s", timedelta(days=36_500)),
        ("P14D", timedelta(days=14)),
        ("PT4H", timedelta(hours=4)),
        ("P1DT2H30M", timedelta(days=1, hours=2, minutes=30)),
        ("PT0.5S", timedelta(seconds=0.5)),
        ("P2W", timedelta(weeks=2)),
    ],
)
def test_a_duration_is_read_in_short_and_in_iso_form(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected
    assert load(idle_after=text).idle_after == expected


@pytest.mark.parametrize(
    "value", ["14", "0", "1.5", 14, 1.5, True, None, "", "d", "14 d", "14D", "14w", "-14d", "٣ days"]
)
def test_a_bare_number_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match=r"is no duration: write 14d, 4h, 30m, 36s, or ISO 8601 such as P14D$"):
        parse_duration(value)


@pytest.mark.parametrize("text", ["0d", "0s", "PT0S", "P0D", "-P1D", "-PT1S", timedelta(0), -timedelta(seconds=1)])
def test_a_duration_is_longer_than_nothing(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not longer than nothing$"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["PT", "PD", "P9999999999D", "P14D4H", "PTT4H"])
def test_broken_iso_is_told_from_no_duration_at_all(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' is no ISO 8601 duration such as P14D or PT4H$"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text", ["36501d", "876001h", "3153600001s", "9999999999d", "P36500DT1S", "P999999999DT23H59M59S"]
)
def test_a_duration_is_at_most_a_hundred_years(text: str) -> None:
    assert faults(request_timeout=text) == (f"--request-timeout: {text!r} is longer than 36500 days",)


def test_a_duration_too_long_to_count_is_refused() -> None:
    assert faults(max_age="10000000000d") == (
        "--max-age: '10000000000d' is no duration: write 14d, 4h, 30m, 36s, or ISO 8601 such as P14D",
    )


@given(st.text() | st.from_regex(r"-?P?[\dTDHMSWY.,]{0,12}[dhms]?", fullmatch=True))
def test_any_text_is_a_positive_duration_or_a_value_error(text: str) -> None:
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert isinstance(duration, timedelta)
    assert duration > timedelta(0)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(days=14), "14d"),
        (timedelta(days=1), "24h"),
        (timedelta(hours=36), "36h"),
        (timedelta(hours=1), "1h"),
        (timedelta(minutes=90), "90m"),
        (timedelta(seconds=1), "1s"),
        (timedelta(seconds=1.5), "PT1.5S"),
        (timedelta(microseconds=1), "PT0.000001S"),
    ],
)
def test_a_duration_is_shown_in_its_shortest_form(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=36_500)))
@example(timedelta(days=2))
@example(timedelta(days=36_500, seconds=-1))
def test_a_shown_duration_reads_back_as_itself(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


# Instants


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-20T03:00:00Z", NOW),
        ("2026-11-20T04:00:00+01:00", NOW),
        ("2026-11-20 03:00Z", NOW),
        ("2026-11-20T03:00:00.250Z", NOW.replace(microsecond=250_000)),
        ("2026-11-20", NOW.replace(hour=0)),
        ("20261120", NOW.replace(hour=0)),
        (NOW, NOW),
    ],
)
def test_an_instant_has_a_zone_or_is_a_bare_date(value: object, expected: datetime) -> None:
    assert parse_instant(value) == expected


def test_an_instant_is_kept_in_utc() -> None:
    as_of = load(as_of="2026-11-20T04:00:00+01:00").as_of
    assert as_of is not None
    assert (as_of, as_of.utcoffset()) == (NOW, timedelta(0))


@pytest.mark.parametrize(
    "value",
    ["2026-11-20T03:00:00", "2026-11-31", "yesterday", "", 1_795_000_000, "2026-W47-5", "0001-01-01T00:00+14:00"],
)
def test_anything_else_is_no_instant(value: object) -> None:
    with pytest.raises(ValueError, match=r"is neither an instant with a zone .* nor a date"):
        parse_instant(value)


# Sources


def test_flags_win_over_the_environment_over_the_file_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_MAX_ACTS", "2")
    monkeypatch.setenv("LIFECYCLE_READ_CONCURRENCY", "2")
    in_file = a_file(tmp_path, "max_acts: 3\nread-concurrency: 3\nWRITE_CONCURRENCY: 3\n")
    settings = load(in_file, max_acts="1")
    assert (settings.max_acts, settings.read_concurrency, settings.write_concurrency) == (1, 2, 3)
    assert settings.expect_at_least == 0


def test_every_setting_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_LEONARDO_URL", LEO)
    monkeypatch.setenv("LIFECYCLE_DRY_RUN", "false")
    monkeypatch.setenv("LIFECYCLE_MAX_AGE", "P20D")
    monkeypatch.setenv("LIFECYCLE_PROJECTS", "a, b,")
    monkeypatch.setenv("LIFECYCLE_ONLY", "a/x,b/y")
    monkeypatch.setenv("LIFECYCLE_EXEMPTIONS", json.dumps([entry()]))
    settings = load_settings({}, None, NOW)
    assert changed(settings) == {
        "leonardo_url": LEO,
        "dry_run": False,
        "max_age": timedelta(days=20),
        "projects": ("a", "b"),
        "only": ("a/x", "b/y"),
        "exemptions": (WORKSHOP,),
    }


def test_an_empty_variable_counts_as_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_MAX_ACTS", "")
    monkeypatch.setenv("LIFECYCLE_MAX_AGE", "")
    monkeypatch.setenv("LIFECYCLE_NO_SUCH_THING", "")
    settings = load(a_file(tmp_path, "max_acts: 3\n"))
    assert (settings.max_acts, settings.max_age) == (3, timedelta(days=14))


def test_a_file_is_yaml_whose_scalars_are_read_as_settings_are(tmp_path: Path) -> None:
    settings = load(a_file(tmp_path, "dry-run: off\nmax-act-share: 1e-1\nenvironment: 010\nmax-age: 20d\n"))
    assert (settings.dry_run, settings.max_act_share, settings.environment) == (False, 0.1, "010")
    assert settings.max_age == timedelta(days=20)


def test_a_text_that_is_no_unicode_is_refused() -> None:
    (fault,) = faults(started_by="\udcff")
    assert fault.startswith("--started-by: ")
    assert fault.encode()


def test_settings_cannot_be_changed_after_the_start() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().dry_run = False


# Unknown names


def test_a_variable_in_other_letters_or_unknown_is_refused_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_MAX_AGEE", "3d")
    monkeypatch.setenv("Lifecycle_Dry_Runs", "no")
    monkeypatch.setenv("LIFECYCLE_0123456789", "1")
    monkeypatch.setenv("lifecycle_max_acts", "3")
    assert faults() == (
        "LIFECYCLE_0123456789: unknown setting",
        "LIFECYCLE_MAX_AGEE: unknown setting; did you mean LIFECYCLE_MAX_AGE?",
        "Lifecycle_Dry_Runs: unknown setting; did you mean LIFECYCLE_DRY_RUN?",
        "lifecycle_max_acts: unknown setting; did you mean LIFECYCLE_MAX_ACTS?",
    )


def test_an_unknown_key_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    path = a_file(tmp_path, "max-agee: 3d\nzzzz: 1\n")
    assert faults(path) == (
        f"max_agee in {path}: unknown setting; did you mean max_age?",
        f"zzzz in {path}: unknown setting",
    )


def test_an_unknown_flag_is_refused_with_a_suggestion() -> None:
    assert faults(max_agee="3d") == ("--max-agee: unknown setting; did you mean max_age?",)


def test_a_fault_names_where_the_value_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_MAX_ACTS", "none")
    path = a_file(tmp_path, "max_act_share: 2\n")
    assert set(faults(path, auth="magic", expect_at_least="-1")) == {
        "--auth: input should be 'google' or 'none', not 'magic'",
        "--expect-at-least: input should be greater than or equal to 0, not '-1'",
        "LIFECYCLE_MAX_ACTS: input should be a valid integer, unable to parse string as an integer, not 'none'",
        f"max_act_share in {path}: input should be less than or equal to 1, not '2'",
    }


def test_a_value_of_another_shape_is_refused_without_being_quoted(tmp_path: Path) -> None:
    path = a_file(tmp_path, "max_acts: [1]\n")
    assert faults(path) == (f"max_acts in {path}: input should be a valid integer",)


def test_an_unknown_variable_is_told_beside_every_other_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_MAX_AGEE", "3d")
    unknown = "LIFECYCLE_MAX_AGEE: unknown setting; did you mean LIFECYCLE_MAX_AGE?"
    path = a_file(tmp_path, "- 1\n")
    no_mapping = f"config: {path} holds no settings: it must be a mapping of names to values"
    assert faults(path) == (unknown, no_mapping)
    assert faults(max_acts="0") == (unknown, "--max-acts: input should be greater than or equal to 1, not '0'")
    assert faults_without_url() == (unknown, "leonardo-url is missing (or use --sandbox)")


# The config file itself


@pytest.mark.parametrize("text", ["", "- max_age\n", "max_age\n", "# nothing\n"])
def test_a_config_file_must_be_a_mapping(tmp_path: Path, text: str) -> None:
    path = a_file(tmp_path, text)
    assert faults(path) == (f"config: {path} holds no settings: it must be a mapping of names to values",)


def test_a_key_that_is_written_twice_is_refused(tmp_path: Path) -> None:
    path = a_file(tmp_path, "environment: test\nmax_age: 20d\nmax_age: 30d\n")
    assert faults(path) == (f"config: {path} is no readable YAML: line 1: written twice: max_age",)


def test_a_key_that_is_written_twice_in_two_spellings_is_refused(tmp_path: Path) -> None:
    path = a_file(tmp_path, "max-age: 20d\nMAX_AGE: 30d\n")
    assert faults(path) == (f"config: {path} gives a setting twice",)


@pytest.mark.parametrize("text", ["a: b: c\n", "[", "? [a, b]\n: 1\n", "\x00", "a: &a [*a]\n", "[" * 1_000])
def test_a_config_file_that_is_no_yaml_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = a_file(tmp_path, text)
    (fault,) = faults(path)
    assert fault.startswith(f"config: {path} is no readable YAML: ")
    assert "\n" not in fault


def test_a_config_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert faults(missing) == (f"config: '{missing}' cannot be read: No such file or directory",)
    assert faults(tmp_path) == (f"config: '{tmp_path}' cannot be read: Is a directory",)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert faults(binary) == (f"config: '{binary}' cannot be read: it is no UTF-8 text",)


def test_yaml_is_read_as_text_only() -> None:
    assert load_yaml("{a: 1e3, b: off, c: 2026-12-01, d: [~, null]}", "x") == {
        "a": "1e3",
        "b": "off",
        "c": "2026-12-01",
        "d": ["~", "null"],
    }


# Contradictions


def test_a_url_is_needed_unless_there_is_a_sandbox() -> None:
    assert faults_without_url() == ("leonardo-url is missing (or use --sandbox)",)
    assert load_settings({"sandbox": True}, None, NOW).sandbox
    assert faults(sandbox=True) == ("leonardo-url and sandbox: give one of them",)


@pytest.mark.parametrize("url", ["ftp://leo.example.org", "https://", "leo.example.org", "//leo.example.org", ""])
def test_a_url_is_http_or_https(url: str) -> None:
    assert faults(leonardo_url=url) == ("--leonardo-url: it must be an http or https URL",)


@pytest.mark.parametrize(
    "url",
    [
        "https://ada:sesame@leo.example.org",
        "https://sesame@leo.example.org",
        "https://:sesame@leo.example.org",
        "https://leo.example.org/?key=sesame",
        "https://leo.example.org/#sesame",
    ],
)
def test_a_url_holds_no_secret_and_the_fault_does_not_repeat_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = "it must not hold a user, a password, a query or a fragment"
    assert faults(leonardo_url=url) == (f"--leonardo-url: {fault}",)
    monkeypatch.setenv("LIFECYCLE_LEONARDO_URL", url)
    assert faults_without_url() == (f"LIFECYCLE_LEONARDO_URL: {fault}",)


def test_a_url_that_cannot_be_split_is_refused_without_being_repeated() -> None:
    (fault,) = faults(leonardo_url="https://ada:sesame@[::1")
    assert fault.startswith("--leonardo-url: ")
    assert "sesame" not in fault


@pytest.mark.parametrize("url", ["https://leo.example.org:port", "https://leo.example.org:99999"])
def test_a_url_has_a_port_that_exists(url: str) -> None:
    (fault,) = faults(leonardo_url=url)
    assert fault.startswith("--leonardo-url: ")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "localhost", "localhost:1"])
def test_plain_http_and_no_token_are_for_loopback(host: str) -> None:
    assert load(leonardo_url=f"http://{host}", auth="none").leonardo_url == f"http://{host}"
    assert load(leonardo_url=f"https://{host}", auth="none").auth == "none"
    assert load(leonardo_url=f"http://{host}").needs_token


@pytest.mark.parametrize("host", ["leo.example.org", "10.0.0.1", "localhost.example.org", "128.0.0.1", "[::2]"])
def test_plain_http_and_no_token_are_refused_off_loopback(host: str) -> None:
    plain = "--leonardo-url: plain http is for loopback only: the token would travel in the clear"
    assert faults(leonardo_url=f"http://{host}") == (plain,)
    assert faults(leonardo_url=f"http://{host}", auth="none") == (plain,)
    assert faults(leonardo_url=f"https://{host}", auth="none") == ("auth: none is for a Leonardo on loopback only",)


def test_no_host_is_not_loopback() -> None:
    hosts = (None, "", "LOCALHOST.", "::1%lo", "localhost", "LocalHost", "::1", "[::1]", "127.0.0.1")
    assert [is_loopback(host) for host in hosts] == [False] * 4 + [True] * 5


LOOKALIKES = [
    *("localhost.evil.com", "127.0.0.1.evil.com", "127.0.0.1@evil.com", "evil.com@127.0.0.1", "127.0.0.1:80@evil.com"),
    *("127.0.0.1\\@evil.com", "127.0.0.1\\.evil.com", "127.0.0.1#@evil.com", "127.0.0.1?@evil.com", "localhost."),
    *("0x7f.1", "0x7f000001", "2130706433", "017700000001", "127.1", "127.0.0.01", "127.0.0.0x1", "0", "999.1.1.1"),
    *("[::1]evil.com", "[::1", "::1", "[::1%25lo]", "[::1%lo]", "[127.0.0.1]", "[localhost]", "[]", "[::1]:", "[v1.x]"),
    *(
        "local host",
        "localhost%00.evil.com",
        "%6cocalhost",
        "localhost:80:80",
        "localhost:x",
        "localhost:65536",
        "a..b",
    ),
    *(
        "-evil.com",
        "e" * 64 + ".com",
        "e." * 127 + "e",
        "evil.com,localhost",
        "l\u043ecalhost",
        "127\u30020\u30020\u30021",
    ),
]


@pytest.mark.parametrize("host", LOOKALIKES)
def test_what_looks_like_loopback_or_can_be_read_in_two_ways_is_refused(host: str) -> None:
    (fault,) = faults(leonardo_url=f"http://{host}", auth="none")
    assert fault.startswith("--leonardo-url: ")
    assert "evil" not in fault
    if not re.fullmatch(r"(localhost|127\.0\.0\.1)\.(evil\.com)?", host):
        assert len(faults(leonardo_url=f"https://{host}/api")) == 1


@pytest.mark.unmeasured
@given(st.text(alphabet="localhst127.0:@/\\[]%?#xé\t", max_size=20))
def test_any_address_is_a_url_that_the_http_library_reads_alike_or_a_usage_error(text: str) -> None:
    url = f"https://{text}"
    with suppress(UsageError):
        assert load(leonardo_url=url).leonardo_url == url
        assert httpx.URL(url).host == host_of(url).strip("[]").lower()
        assert urlsplit(url).hostname == host_of(url).strip("[]").lower()


def test_the_limit_for_idle_runtimes_is_not_above_the_limit_for_all() -> None:
    assert load(max_age="7d").max_age_if_idle == load(max_age="7d").max_age
    assert faults(max_age="604799s") == ("max-age-if-idle 7d is above max-age 604799s",)
    assert faults(max_age="1d", max_age_if_idle="2d") == ("max-age-if-idle 2d is above max-age 24h",)


def test_another_instant_is_refused_in_a_live_run() -> None:
    assert load(as_of="2026-11-01").as_of == datetime(2026, 11, 1, tzinfo=UTC)
    assert not load(dry_run=False).dry_run
    assert faults(as_of="2026-11-01", dry_run=False) == ("as-of: a live run judges by the clock only",)


def test_a_deadline_leaves_time_for_one_act() -> None:
    assert load(deadline="91s").deadline == timedelta(seconds=91)
    assert load(deadline="PT90.000001S").deadline > timedelta(seconds=90)
    fault = "is not above request-timeout + 15s = 90s: nothing could be done"
    assert faults(deadline="90s") == (f"deadline: 90s {fault}",)
    assert faults(deadline="89s") == (f"deadline: 89s {fault}",)
    assert load(deadline="16s", request_timeout="PT0.5S").deadline == timedelta(seconds=16)
    assert faults(deadline="16s", request_timeout="1s") == (
        "deadline: 16s is not above request-timeout + 15s = 16s: nothing could be done",
    )


def test_a_runtime_outside_the_projects_is_refused(tmp_path: Path) -> None:
    assert load(only=["a/x", "c/x/y"]).only == ("a/x", "c/x/y")
    assert load(only=["a/x"], projects=["a"]).swept == ("a",)
    assert faults(only=["a/x", "b/y", "c/z"], projects=["a"]) == ("only: not in one of the projects: b/y, c/z",)
    listed = str(a_file(tmp_path, "b\n", "projects"))
    assert load(only=["a/x", "b/y"], projects=["a"], projects_file=listed).swept == ("a", "b")
    assert faults(only=["a/x"], projects_file=listed) == ("only: not in one of the projects: a/x",)


@pytest.mark.parametrize("path", ["terra", "/name", "terra/", "/"])
def test_only_takes_a_project_and_a_name(path: str) -> None:
    assert faults(only=["a/x", path]) == (f"--only: {path!r} is not PROJECT/NAME",)


def test_nobody_is_impersonated_without_a_token() -> None:
    someone = "job@example.iam.gserviceaccount.com"
    fault = "impersonate-service-account: nobody is impersonated without a token (auth none, or sandbox)"
    assert load(impersonate_service_account=someone).needs_token
    assert faults(leonardo_url="http://localhost", auth="none", impersonate_service_account=someone) == (fault,)
    assert faults_without_url(sandbox=True, impersonate_service_account=someone) == (fault,)


def test_a_token_is_needed_unless_told_or_in_a_sandbox() -> None:
    assert load().needs_token
    assert not load(leonardo_url="http://localhost", auth="none").needs_token
    assert not load_settings({"sandbox": True}, None, NOW).needs_token


def test_several_faults_give_one_line_each() -> None:
    with pytest.raises(UsageError) as caught:
        load_settings(
            {
                "auth": "none",
                "leonardo_url": LEO,
                "sandbox": True,
                "max_age": "1d",
                "as_of": "2026-11-01",
                "dry_run": False,
                "deadline": "1s",
                "projects": ["a"],
                "only": ["b/x"],
                "impersonate_service_account": "job@example.org",
            },
            None,
            NOW,
        )
    assert str(caught.value).splitlines() == [
        "leonardo-url and sandbox: give one of them",
        "auth: none is for a Leonardo on loopback only",
        "max-age-if-idle 7d is above max-age 24h",
        "as-of: a live run judges by the clock only",
        "deadline: 1s is not above request-timeout + 15s = 90s: nothing could be done",
        "only: not in one of the projects: b/x",
        "impersonate-service-account: nobody is impersonated without a token (auth none, or sandbox)",
    ]


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("max_acts", ["1", "100000"], ["0", "-1"]),
        ("max_act_share", ["0.0001", "1", "1.0"], ["0", "1.0001", "-0.1", "nan", "inf"]),
        ("expect_at_least", ["0", "1"], ["-1"]),
        ("read_concurrency", ["1", "16"], ["0", "17"]),
        ("write_concurrency", ["1", "16"], ["0", "17"]),
        ("environment", ["x", "x" * 100], ["", "x" * 101]),
        ("started_by", ["x" * 200], ["x" * 201]),
        ("approved_by", ["x" * 200], ["x" * 201]),
        ("auth", ["google"], ["GOOGLE", "token"]),
        ("audit_creator", ["plain", "omit"], ["hash"]),
        ("output", ["auto", "json", "table"], ["text"]),
        ("log_level", ["DEBUG", "INFO", "WARNING", "ERROR"], ["debug", "TRACE"]),
        ("dry_run", ["true", "no", "0"], ["maybe"]),
    ],
)
def test_each_setting_has_its_bounds(name: str, inside: list[str], outside: list[str]) -> None:
    for value in inside:
        accepted: dict[str, Any] = {name: value}
        load(**accepted)
    for value in outside:
        refused: dict[str, Any] = {name: value}
        (fault,) = faults(**refused)
        assert fault.startswith(f"{flag_of(name)}: ")
        assert fault.endswith(f", not {value!r}")


# Exemptions


def test_exemptions_come_from_a_file_or_inline_or_as_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "- match: {project: terra-*}\n  until: 2026-12-01\n  reason: workshop\n"
    path = a_file(tmp_path, text, "exemptions.yaml")
    assert load(exemptions=str(path)).exemptions == (WORKSHOP,)
    assert load(exemptions=json.dumps([entry()])).exemptions == (WORKSHOP,)
    assert load(exemptions=f"  {json.dumps([entry()])}").exemptions == (WORKSHOP,)
    assert load(a_file(tmp_path, {"exemptions": str(path)})).exemptions == (WORKSHOP,)
    assert load(a_file(tmp_path, "exemptions:\n" + text)).exemptions == (WORKSHOP,)
    monkeypatch.setenv("LIFECYCLE_EXEMPTIONS", str(path))
    assert load().exemptions == (WORKSHOP,)


def test_no_entries_are_no_exemptions(tmp_path: Path) -> None:
    empty = str(a_file(tmp_path, "# none yet\n", "exemptions.yaml"))
    assert load(exemptions=empty).exemptions == load(exemptions="[]").exemptions == ()


def test_every_field_of_an_exemption_is_read() -> None:
    match = {"project": "terra-*", "name": "all-?", "creator": "*@example.org", "label": ["tool=J*", "team="]}
    assert exemptions_of(entry(match=match), entry(match={"label": "a=b=c"})) == (
        Exemption(
            until=DECEMBER,
            reason="workshop",
            project="terra-*",
            name="all-?",
            creator="*@example.org",
            label=("tool=J*", "team="),
        ),
        Exemption(until=DECEMBER, reason="workshop", label=("a=b=c",)),
    )


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("2026-12-01", DECEMBER),
        ("2026-12-01T00:00:00Z", DECEMBER),
        ("2026-12-01T02:00:00+02:00", DECEMBER),
        ("2026-12-01 10:30:00Z", DECEMBER.replace(hour=10, minute=30)),
    ],
)
def test_a_yaml_date_and_an_instant_with_a_zone_end_an_exemption(
    tmp_path: Path, until: str, expected: datetime
) -> None:
    text = f"- {{match: {{project: terra-*}}, until: !!str {until!r}, reason: workshop}}\n"
    plain = text.replace("!!str ", "").replace("'", "") if " " not in until else text
    for written in (text, plain):
        path = a_file(tmp_path, written, "exemptions.yaml")
        assert [e.until for e in load(exemptions=str(path)).exemptions] == [expected]


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (entry(until=None), "entry 0.until: field required"),
        (entry(reason=None), "entry 0.reason: field required"),
        (entry(match=None), "entry 0.match: field required"),
        (entry(reason=""), "entry 0.reason: string should have at least 1 character, not ''"),
        (
            entry(until="2026-12-01T10:00"),
            "entry 0.until: '2026-12-01T10:00' is neither an instant with a zone (2026-11-20T03:00:00Z)"
            " nor a date (2026-11-20)",
        ),
        (
            entry(match={}),
            "entry 0.match: it needs project, name, creator or label: an empty match would spare everything",
        ),
        (
            entry(match={"label": []}),
            "entry 0.match: it needs project, name, creator or label: an empty match would spare everything",
        ),
        (entry(match={"label": "tool"}), "entry 0.match.label: 'tool' is not key=glob"),
        (entry(match={"label": ["a=b", "=x"]}), "entry 0.match.label: '=x' is not key=glob"),
        (entry(match={"project": ""}), "entry 0.match.project: string should have at least 1 character, not ''"),
        (entry(match={"projct": "a"}), "entry 0.match.projct: it is not known here: is it spelt right?"),
        (entry(note="x"), "entry 0.note: it is not known here: is it spelt right?"),
        *(
            (entry(match={"name": word}), f"entry 0.match.name: {word!r} can match nothing: {NOTHING}")
            for word in ("terra-{1,2}", "a,b", "a b", "a\t", "'a'", '"a"', "{*}", "`a`", "a\u00a0", "terra-1/a")
        ),
        *(
            (entry(match={"creator": word}), f"entry 0.match.creator: {word!r} can match nothing: {NO_ADDRESS}")
            for word in ("ada", "a@example.org, b@example.org", '"a@example.org"', "{a,b}@example.org")
        ),
        (entry(match={"label": "*=*"}), "entry 0.match.label: '*=*' can match nothing: a label's key is no glob"),
        *(
            (entry(match=match), "entry 0.match: wildcards alone would spare everything: say what is meant")
            for match in (
                {"project": "*"},
                {"project": "?*"},
                {"creator": "*@*"},
                {"creator": "?*@*", "name": "*"},
                {"project": "*", "name": "**", "creator": "*"},
                {"creator": "*", "label": []},
            )
        ),
        ({}, "entry 0.match: field required; entry 0.until: field required; entry 0.reason: field required"),
    ],
)
def test_an_exemption_that_is_not_whole_is_refused(broken: object, fault: str) -> None:
    assert faults(exemptions=json.dumps([broken])) == (f"--exemptions: {fault}",)


def test_a_star_beside_something_else_is_an_exemption() -> None:
    for match in (
        {"project": "*", "name": "a"},
        {"project": "*", "label": "a=*"},
        {"label": "a={b}, c"},
        {"name": "*a"},
        {"creator": "o'brien@example.org"},
        {"creator": "ada*"},
    ):
        (exemption,) = exemptions_of(entry(match=match))
        assert exemption.reason == "workshop"


def test_the_broken_entry_is_named_among_others() -> None:
    assert faults(exemptions=json.dumps([entry(), entry(reason=None)])) == (
        "--exemptions: entry 1.reason: field required",
    )


def test_exemptions_are_a_list() -> None:
    assert faults(exemptions="{}") == ("--exemptions: entry -: input should be a valid list",)


def test_an_exemption_lasts_at_most_180_days() -> None:
    limit = NOW + timedelta(days=180)
    assert [e.until for e in exemptions_of(entry(until=limit.isoformat()))] == [limit]
    beyond = (limit + timedelta(microseconds=1)).isoformat()
    expected = ("exemptions: 'workshop' lasts until 2027-05-19, more than 180 days ahead",)
    assert faults(exemptions=json.dumps([entry(until=beyond)])) == expected
    elsewhere = limit.astimezone(timezone(timedelta(hours=14))).isoformat()
    assert [e.until for e in exemptions_of(entry(until=elsewhere))] == [limit]


def test_every_exemption_that_lasts_too_long_is_told() -> None:
    long = [entry(until="2028-01-01", reason=reason) for reason in ("one", "two")]
    assert faults(exemptions=json.dumps([*long, entry()])) == (
        "exemptions: 'one' lasts until 2028-01-01, more than 180 days ahead",
        "exemptions: 'two' lasts until 2028-01-01, more than 180 days ahead",
    )


def test_a_lapsed_exemption_is_no_fault() -> None:
    assert [e.until for e in exemptions_of(entry(until="2020-01-01"))] == [datetime(2020, 1, 1, tzinfo=UTC)]


@pytest.mark.unmeasured
def test_there_are_at_most_100_exemptions() -> None:
    assert len(exemptions_of(*[entry()] * 100)) == 100
    assert faults(exemptions=json.dumps([entry()] * 101)) == (
        "--exemptions: entry -: list should have at most 100 items after validation, not 101",
    )


def test_a_key_twice_in_an_exemption_is_refused(tmp_path: Path) -> None:
    text = '[{"match": {"project": "a", "project": "b"}, "until": "2026-12-01", "reason": "x"}]'
    fault = "is no readable YAML: line 1: written twice: project"
    assert faults(exemptions=text) == (f"--exemptions: inline {fault}",)
    path = a_file(tmp_path, text, "exemptions.yaml")
    assert faults(exemptions=str(path)) == (f"--exemptions: {path} {fault}",)


def test_exemptions_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    assert faults(exemptions="missing.yaml") == (
        "--exemptions: 'missing.yaml' cannot be read: No such file or directory",
    )
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff")
    assert faults(exemptions=str(binary)) == (f"--exemptions: '{binary}' cannot be read: it is no UTF-8 text",)
    (fault,) = faults(exemptions="[{")
    assert fault.startswith("--exemptions: inline is no readable YAML: ")


# Projects


def test_projects_are_the_union_of_all_sources_each_once(tmp_path: Path) -> None:
    listed = str(a_file(tmp_path, " c \n\na\r\nc\nd", "projects"))
    assert load().swept is None
    assert load(projects=["b", "a", "b"]).swept == ("b", "a")
    assert load(projects_file=listed).swept == ("c", "a", "d")
    assert load(projects=["b", "a"], projects_file=listed).swept == ("b", "a", "c", "d")


def test_projects_in_a_variable_have_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_PROJECTS", " a ,b,, a,")
    assert load().swept == ("a", "b")
    assert load(projects=["c"]).swept == ("c",)
    monkeypatch.delenv("LIFECYCLE_PROJECTS")
    assert load(a_file(tmp_path, "projects: [a, b]\n")).swept == ("a", "b")
    assert load(a_file(tmp_path, "projects: a, b\n")).swept == ("a", "b")


@pytest.mark.parametrize("value", [",", " ", " , ,"])
def test_a_list_of_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LIFECYCLE_PROJECTS", value)
    monkeypatch.setenv("LIFECYCLE_ONLY", value)
    assert set(faults()) == {"LIFECYCLE_PROJECTS: the list is empty", "LIFECYCLE_ONLY: the list is empty"}


@pytest.mark.parametrize("name", ["projects", "only"])
def test_an_empty_list_in_the_config_file_is_refused(tmp_path: Path, name: str) -> None:
    path = a_file(tmp_path, f"{name}: []\n")
    assert faults(path) == (f"{name} in {path}: the list is empty",)


def test_an_empty_file_of_projects_is_refused(tmp_path: Path) -> None:
    empty = a_file(tmp_path, " \n\n", "projects")
    assert faults(projects_file=str(empty)) == (f"--projects-file: '{empty}' names no project",)
    assert faults(projects=["a"], projects_file=str(empty)) == (f"--projects-file: '{empty}' names no project",)
    comments = a_file(tmp_path, "# nobody yet\r\n  # nobody\n", "projects")
    assert faults(projects_file=str(comments)) == (f"--projects-file: '{comments}' names no project",)
    assert faults(projects_file="missing") == ("--projects-file: 'missing' cannot be read: No such file or directory",)


def test_a_file_of_projects_is_a_text_file_as_people_write_them(tmp_path: Path) -> None:
    listed = tmp_path / "projects"
    listed.write_bytes(b"\xef\xbb\xbfterra-1\r\n# ours\r\n\r\n  terra-2\t# theirs\r\nterra-1\nterra-3#\rterra-4")
    assert load(projects_file=str(listed)).swept == ("terra-1", "terra-2", "terra-3", "terra-4")
    listed.write_bytes(b"terra-\xff")
    assert faults(projects_file=str(listed)) == (f"--projects-file: '{listed}' cannot be read: it is no UTF-8 text",)


@pytest.mark.parametrize("name", ["a", "terra-1", "a" * 30, "a-" * 14 + "ab", "all-of-us-rw-prod"])
def test_what_can_be_a_projects_name_is_one(tmp_path: Path, name: str) -> None:
    assert load(projects=[name]).swept == (name,)
    assert load(projects_file=str(a_file(tmp_path, f"terra-1\n{name}\n", "projects"))).swept is not None


@pytest.mark.parametrize(
    "name",
    [
        *("a" * 31, "1terra", "-terra", "terra-", "Terra-1", "terra_1", "terra 1", "terra/1", "terra-*", "'terra-1'"),
        *("t\u00e9", "domain.com:terra", "terra\x0b1", "terra\u20281", "null\x00"),
    ],
)
def test_what_cannot_be_a_projects_name_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    rule = "1 to 30 lower-case letters, digits and hyphens, a letter first, no hyphen last"
    assert faults(projects=["terra-1", name]) == (f"--project: {name!r} cannot be a project's name: {rule}",)
    path = a_file(tmp_path, f"# two\nterra-1\n{name}\n", "projects")
    assert faults(projects_file=str(path)) == (
        f"--projects-file: line 3 of '{path}': {name!r} cannot be a project's name: {rule}",
    )


@pytest.mark.unmeasured
def test_a_hundred_thousand_projects_and_as_many_runtimes_are_weighed_one_by_one(tmp_path: Path) -> None:
    names = [f"terra-{number}" for number in range(100_000)]
    listed = a_file(tmp_path, "\n".join(names), "projects")
    settings = load(projects_file=str(listed), only=[f"{name}/a" for name in names])
    assert settings.swept == tuple(names)


# What the rules get


def test_the_rules_get_what_was_set() -> None:
    settings = load(
        max_age="20d",
        max_age_if_idle="10d",
        idle_after="5h",
        spare_possibly_busy=True,
        kernel_busy_limit="12h",
        autopause_margin="1m",
        autopause_max_threshold="5d",
        stuck_after="3h",
        stop_overdue=True,
        exemptions=json.dumps([entry()]),
        max_acts="7",
        max_act_share="0.5",
        expect_at_least="3",
        allow_empty=True,
    )
    assert settings.policy(DeletionPolicy) == DeletionPolicy(
        max_age=timedelta(days=20),
        max_age_if_idle=timedelta(days=10),
        idle_after=timedelta(hours=5),
        spare_possibly_busy=True,
        kernel_busy_limit=timedelta(hours=12),
        autopause_margin=timedelta(minutes=1),
        exemptions=(WORKSHOP,),
    )
    assert settings.policy(AutopausePolicy) == AutopausePolicy(
        kernel_busy_limit=timedelta(hours=12),
        autopause_margin=timedelta(minutes=1),
        autopause_max_threshold=timedelta(days=5),
        exemptions=(WORKSHOP,),
        stuck_after=timedelta(hours=3),
        stop_overdue=True,
    )
    assert settings.caps == Caps(max_acts=7, max_act_share=0.5)


# Defaults and help


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_default_is_the_designs(name: str) -> None:
    assert Settings.model_fields[name].default == DEFAULTS[name]
    assert type(Settings.model_fields[name].default) is type(DEFAULTS[name])


def a_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="leo", formatter_class=lambda prog: argparse.HelpFormatter(prog, width=400))
    add_flags(parser, Settings.model_fields)
    return parser


def helped() -> Mapping[str, str]:
    """The help of each flag, by the flag."""
    lines = a_parser().format_help().partition("options:")[2].splitlines()
    text = re.sub(r"\n {10,}", "  ", "\n".join(lines))
    return {line.split()[0].rstrip(","): line for line in text.splitlines() if line.strip()}


def shown(default: object) -> str:
    if isinstance(default, timedelta):
        return format_duration(default)
    if isinstance(default, bool):
        return "yes" if default else "no"
    return "none" if default in (None, ()) else str(default)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_help_explains_each_setting_with_its_default_and_unit(name: str) -> None:
    line = helped()[flag_of(name)]
    default = DEFAULTS[name]
    description = Settings.model_fields[name].description
    assert description
    assert line.endswith(f"{description} [{shown(default)}]")
    if isinstance(default, timedelta):
        assert "(duration" in line
        assert f"{flag_of(name)} DURATION" in line
    elif isinstance(default, bool):
        assert f"{flag_of(name)}, --no-{name.replace('_', '-')}" in line
    elif isinstance(default, int | float):
        assert re.search(r"\((acts|runtimes|\S+ to \S+)\)", line)


def test_help_says_what_kind_of_value_a_flag_takes() -> None:
    lines = helped()
    assert "--auth google|none " in lines["--auth"]
    assert "--max-acts N " in lines["--max-acts"]
    assert "--environment TEXT " in lines["--environment"]
    for name, metavar in METAVARS.items():
        assert f"{flag_of(name)} {metavar} " in lines[flag_of(name)]


def test_a_percent_sign_does_not_break_the_help() -> None:
    assert "%" not in "".join(info.description or "" for info in Settings.model_fields.values())
    assert a_parser().format_help()


def test_flags_that_are_not_given_are_no_settings() -> None:
    assert vars(a_parser().parse_args([])) == {}


def test_flags_become_settings() -> None:
    arguments = ["--leonardo-url", LEO, "--no-dry-run", "--max-age", "20d", "--project", "a", "--project", "b"]
    flags: dict[str, Any] = vars(a_parser().parse_args([*arguments, "--only", "a/x", "--only", "b/y", "--allow-empty"]))
    settings = load_settings(flags, None, NOW)
    assert changed(settings) == {
        "leonardo_url": LEO,
        "dry_run": False,
        "max_age": timedelta(days=20),
        "projects": ("a", "b"),
        "only": ("a/x", "b/y"),
        "allow_empty": True,
    }
    assert {flag_of(name) for name in REPEATED_FLAGS} == {"--project", "--only", "--except"}


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
@example("a: 1\na: 2\n")
def test_any_text_is_yaml_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        value = load_yaml(text, "x")
        assert value == yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - builds nothing but text, lists and dicts


def test_names_of_projects_are_split_at_commas_wherever_they_come_from(tmp_path: Path) -> None:
    path = a_file(tmp_path, "projects: [' a,b', '', c]\n")
    assert load(path).swept == ("a", "b", "c")
    assert load(None, projects=["a,b", "c"]).swept == ("a", "b", "c")
    assert faults(None, projects=[" "]) == ("--project: the list is empty",)


def test_a_key_without_a_value_is_unset_like_an_empty_variable(tmp_path: Path) -> None:
    path = a_file(tmp_path, "impersonate_service_account:\nmax_age:\n")
    settings = load(path, leonardo_url=LEO)
    assert (settings.impersonate_service_account, settings.max_age) == (None, timedelta(days=14))


def test_what_narrows_a_run_is_refused_where_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = "it is empty, which never means all: say which, or leave it out"
    narrowing = ["at_most", "except", "exemptions", "only", "plan", "projects", "projects_file"]
    path = a_file(tmp_path, "".join(f"{name}:\n" for name in narrowing))
    assert sorted(faults(path)) == [f"{name} in {path}: {fault}" for name in narrowing]
    for name in narrowing:
        monkeypatch.setenv(f"LIFECYCLE_{name.upper()}", "")
    assert sorted(faults()) == [f"LIFECYCLE_{name.upper()}: {fault}" for name in narrowing]
    flags: dict[str, Any] = dict.fromkeys(sorted({*narrowing} - {"exemptions"}), "")
    told = [f"LIFECYCLE_EXEMPTIONS: {fault}", *(f"{flag_of(name)}: {fault}" for name in flags)]
    assert sorted(faults(None, **flags)) == sorted(told)


def test_an_empty_flag_is_refused() -> None:
    assert faults(None, leonardo_url=LEO, impersonate_service_account="") == (
        "--impersonate-service-account: string should have at least 1 character, not ''",
    )


@pytest.mark.parametrize(
    "url", ["https://leo.example.org/ x", "https://leo.example.org/\n", "https://l\u00e9o.example.org"]
)
def test_a_url_holds_only_what_a_url_may_hold(url: str) -> None:
    assert faults(None, leonardo_url=url) == (
        "--leonardo-url: it must not hold spaces or other characters that a URL escapes",
    )
