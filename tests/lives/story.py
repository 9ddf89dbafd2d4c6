"""Makes a life that went wrong as short as it can be while it goes wrong in the same way, and tells it in ten lines."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.lives.history import Life
from tests.lives.living import Lived, live

LINES = 10
MOST_TRIES = 600


def shrunk(life: Life, goes_wrong: Callable[[Life], bool]) -> Life:
    """The same with fewer events and runtimes, none of which can be left out any more."""
    tries = MOST_TRIES

    def shorter(whole: Life, part: str) -> Life:
        nonlocal tries
        items = getattr(whole, part)
        size = len(items)
        while size:
            start = 0
            while start < len(items) and tries:
                tries -= 1
                attempt = items[:start] + items[start + size :]
                if goes_wrong(candidate := replace(whole, **{part: attempt})):
                    whole, items = candidate, attempt
                else:
                    start += size
            size //= 2
        return whole

    before = None
    while before != life:
        before = life
        life = shorter(shorter(life, "history"), "fleet")
    for plain in ({"has_cloud": False}, {"raw_rows": ()}, {"pauses_idle": False}):
        if goes_wrong(candidate := replace(life, **plain)):
            life = candidate
    return life


def told(life: Life, lived: Lived, folder: Path) -> list[str]:
    """A life that went wrong, as short as can be; the last line says what is wrong."""
    kind = lived.violation.kind if lived.violation else ""

    def goes_wrong(other: Life) -> bool:
        violation = live(other, folder).violation
        return violation is not None and violation.kind == kind

    short = shrunk(life, goes_wrong)
    story = live(short, folder, telling=True).story
    fleet = [f"{len(short.fleet)} runtimes: {', '.join(_described(dict(of)) for of in short.fleet)}"]
    return fleet + _gist(story)


def _gist(story: list[str]) -> list[str]:
    """Ten lines: what says least is left out, then what is longest ago; the last one says what is wrong."""
    for dull in (" calm", " ends with 0", " begins", ""):
        for line in [line for line in story[:-1] if dull in line]:
            if len(story) >= LINES:
                story.remove(line)
    return story


def _described(machine: dict[str, object]) -> str:
    age, idle = (float(str(machine[word])) / 86400 for word in ("age", "idle"))
    path = f"{machine['project']}/{machine['name']}"
    return f"{path} ({machine['status']}, {age:.2f} d old, idle for {min(idle, age):.2f} d)"
