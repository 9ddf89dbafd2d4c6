"""Runtimes with the decision that somebody expects, judged by a policy: at a prompt, and for each environment."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.clock import utc_now
from core.rules.deletion import DeletionPolicy
from core.settings.cases import environment_beside, judge
from core.settings.reading import load_settings
from tests.conftest import Ended

Run = Callable[..., Ended]
ENVIRONMENTS = Path(__file__).parents[1] / "deploy/environments"
FILES = sorted(ENVIRONMENTS.glob("*.cases.yaml"))
EXEMPTIONS = """\
- {match: {project: terra-workshop-*}, until: 2026-12-10, reason: workshop}
"""


def judged(run: Run, *lines: str, arguments: tuple[str, ...] = ()) -> Ended:
    Path("some.cases.yaml").write_text("".join(f"- {{{line}}}\n" for line in lines))
    return run("delete-old-runtimes", "--cases", "some.cases.yaml", *arguments)


def test_every_environment_has_cases() -> None:
    assert [path.name.partition(".")[0] for path in FILES] == sorted(
        path.stem for path in ENVIRONMENTS.glob("*.yaml") if "." not in path.stem
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_policy_and_the_exemptions_of_each_environment_decide_as_its_cases_expect(path: Path) -> None:
    now = utc_now()
    settings = load_settings({}, None, now, deployed=environment_beside(path), shown=True)
    verdict = judge(path, settings.policy(DeletionPolicy), now)
    assert verdict.lines == [verdict.lines[-1]], "\n".join(verdict.lines)


def test_a_case_that_is_decided_otherwise_is_shown_as_a_difference_and_ends_in_1(run: Run) -> None:
    ended = judged(
        run,
        "keep: within_policy, runtime: terra-1/a, age: 14d",
        "keep: within_policy, runtime: terra-1/b, age: P14DT1S",
        "delete: max_age, runtime: terra-1/c, age: 20d, status: Error",
    )
    assert (ended.code, ended.err) == (1, "")
    assert ended.out.splitlines() == [
        "some.cases.yaml:2: terra-1/b",
        "  - keep: within_policy",
        "  + delete: max_age  # 14 d 1 s old, limit 14 d",
        "some.cases.yaml:3: terra-1/c",
        "  - delete: max_age",
        "  + keep: status_not_eligible  # its status is Error",
        "3 cases judged, 2 not as expected.",
    ]


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("keep: within_policy, runtime: p/n, age: 8d", ()),
        ("delete: max_age_if_idle, runtime: p/n, age: 8d, idle: 4h", ()),
        ("delete: max_age_if_idle, runtime: p/n, age: 8d, idle: 4h, status: Stopped", ("--spare-possibly-busy",)),
        ("keep: kernel_may_be_busy, runtime: p/n, age: 8d, idle: 24h", ("--spare-possibly-busy",)),
        ("delete: max_age_if_idle, runtime: p/n, age: 8d, idle: P1DT15M", ("--spare-possibly-busy",)),
        ("keep: kernel_may_be_busy, runtime: p/n, age: 8d, idle: P1DT15M, autopause: 2d", ("--spare-possibly-busy",)),
        ("keep: cloud_not_supported, runtime: p/n, age: 90d, cloud: AZURE", ()),
        ("keep: undated, runtime: p/n, age: 1d, idle: 2d", ()),
        ("delete: max_age, runtime: p/n, age: 20d, status: Error", ("--delete-errored",)),
        ("delete: max_age, runtime: p/n, age: 11d", ("--max-age", "10d")),
    ],
)
def test_every_part_of_the_rule_can_be_expected(run: Run, line: str, arguments: tuple[str, ...]) -> None:
    ended = judged(run, line, arguments=arguments)
    assert (ended.code, ended.out) == (0, "1 case judged, 0 not as expected.\n")


@pytest.mark.parametrize(
    ("exemption", "line"),
    [
        ("project: terra-workshop-*", "runtime: terra-workshop-1/a"),
        ("creator: ada@*", "runtime: p/n, creator: ada@example.org"),
        ("label: team=blue", "runtime: p/n, labels: {team: blue}"),
    ],
)
def test_an_exemption_is_tested_on_both_sides_of_its_end(run: Run, exemption: str, line: str) -> None:
    Path("e.yaml").write_text(f"- {{match: {{{exemption}}}, until: 2026-12-10, reason: workshop}}\n")
    ended = judged(
        run,
        f"keep: exempt, {line}, age: 90d, at: 2026-12-09T23:59:59Z",
        f"delete: max_age, {line}, age: 90d, at: 2026-12-10",
        "delete: max_age, runtime: other/name, age: 90d",
        arguments=("--exemptions", "e.yaml"),
    )
    assert (ended.code, ended.out) == (0, "3 cases judged, 0 not as expected.\n")


def test_where_an_exemption_matches_the_instant_must_be_said_or_the_answer_would_change_with_the_day(run: Run) -> None:
    Path("e.yaml").write_text(EXEMPTIONS)
    ended = judged(run, "keep: exempt, runtime: terra-workshop-1/a, age: 90d", arguments=("--exemptions", "e.yaml"))
    fault = "some.cases.yaml:1: an exemption matches terra-workshop-1/a: say when (at: INSTANT)"
    assert (ended.code, ended.out, ended.err) == (2, "", f"leo-lifecycle: {fault}\n")


def test_an_exemption_that_no_case_meets_is_named(run: Run) -> None:
    Path("e.yaml").write_text(EXEMPTIONS)
    ended = judged(run, "delete: max_age, runtime: p/n, age: 90d", arguments=("--exemptions", "e.yaml"))
    assert (ended.code, ended.out.splitlines()) == (
        0,
        [
            "no case meets the exemption project terra-workshop-* until 2026-12-10 00:00: workshop",
            "1 case judged, 0 not as expected.",
        ],
    )


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("runtime: p/n, age: 1d", "say what is expected: keep: REASON, or delete: REASON"),
        (
            "keep: exempt, delete: max_age, runtime: p/n, age: 1d",
            "say what is expected: keep: REASON, or delete: REASON",
        ),
        ("keep: within_polcy, runtime: p/n, age: 1d", "keep: 'within_polcy' is no reason; did you mean within_policy?"),
        ("keep: exempt, runtime: p, age: 1d", "runtime: 'p' is not PROJECT/NAME"),
        ("keep: exempt, runtime: p/n, age: 0d", "age: '0d' is not longer than nothing"),
        ("keep: exempt, runtime: p/n", "age: field required"),
        ("keep: exempt, runtime: p/n, age: 1d, staus: Error", "staus: it is not known here: is it spelt right?"),
    ],
)
def test_a_line_that_is_no_case_is_a_usage_error_that_names_it(run: Run, line: str, fault: str) -> None:
    ended = judged(run, "keep: within_policy, runtime: p/n, age: 1d", line)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"leo-lifecycle: some.cases.yaml:2: {fault}\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "cases: some.cases.yaml holds no cases: it must be a list of them"),
        ("[]", "cases: some.cases.yaml holds no cases: it must be a list of them"),
        ("a: b", "cases: some.cases.yaml holds no cases: it must be a list of them"),
        ("- a\n- [b]", "some.cases.yaml:1: 'a' is no case such as {keep: within_policy, runtime: PROJECT/NAME"),
        ("- {", "cases: some.cases.yaml is no readable YAML: "),
    ],
)
def test_a_file_that_holds_no_cases_is_a_usage_error(run: Run, text: str, fault: str) -> None:
    Path("some.cases.yaml").write_text(text)
    ended = run("delete-old-runtimes", "--cases", "some.cases.yaml")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"leo-lifecycle: {fault}")


def test_a_file_that_is_not_there_is_a_usage_error(run: Run) -> None:
    for path, why in (("nowhere.yaml", "No such file or directory"), (".", "Is a directory"), ("/", "Is a directory")):
        ended = run("delete-old-runtimes", "--cases", path)
        assert (ended.code, ended.err) == (2, f"leo-lifecycle: cases: {path!r} cannot be read: {why}\n")


def test_cases_of_an_environment_are_judged_by_its_files_and_flags_stand_above_them(run: Run) -> None:
    path = str(ENVIRONMENTS / "prod.cases.yaml")
    assert run("delete-old-runtimes", "--cases", path).code == 0
    changed = run("delete-old-runtimes", "--cases", path, "--max-age", "10d")
    assert (changed.code, "  + delete: max_age  # 14 d old, limit 10 d" in changed.out) == (1, True)


def test_what_is_wrong_with_the_exemptions_beside_cases_is_said_of_their_own_file(run: Run) -> None:
    for name in ("prod.yaml", "prod.cases.yaml"):
        Path(name).write_bytes((ENVIRONMENTS / name).read_bytes())
    Path("prod.exemptions.yaml").write_text("- {match: {projct: a}, until: 2026-12-10, reason: x}\n")
    ended = run("delete-old-runtimes", "--cases", "prod.cases.yaml")
    fault = "prod.exemptions.yaml: entry 0.match.projct: it is not known here: is it spelt right?"
    assert (ended.code, ended.err) == (2, f"leo-lifecycle: {fault}\n")
