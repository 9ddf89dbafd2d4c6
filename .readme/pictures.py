"""Draws the README's two pictures: a dry run at a terminal, and the report of a few runs; nothing else is kept here."""

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from core.sandbox.server import made_up, serving

HERE = Path(__file__).parent
LEO = str(Path(sys.executable).with_name("leo-lifecycle"))
COLUMNS = 112


def leo(*arguments: str, **more: str) -> str:
    environment = {**os.environ, "LIFECYCLE_AUTH": "none", "LIFECYCLE_ENVIRONMENT": "demo", **more}
    return subprocess.run([LEO, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def terminal(url: str) -> None:
    """A dry run as it is seen, in the program's own colours."""
    command = ("delete-old-runtimes", "--leonardo-url", url, "--output", "table", "--audit-file", "plan.jsonl")
    shown = leo(*command, FORCE_COLOR="1", COLUMNS=str(COLUMNS))
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"))  # noqa: SIM115 - it draws nowhere
    console.print(
        Text.from_ansi(f"$ leo-lifecycle {' '.join(command[:3])}\n{shown}".replace(url, "https://notebooks…"))
    )
    drawn = console.export_svg(title="leo-lifecycle", theme=DIMMED_MONOKAI)
    with_nothing_from_elsewhere = re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", drawn, flags=re.DOTALL)
    (HERE / "terminal.svg").write_text(with_nothing_from_elsewhere)


def report(url: str) -> None:
    """The first screen of the report on a dry run, a live run and another dry run."""
    for number, more in enumerate(([], ["--no-dry-run"], [])):
        command = ("delete-old-runtimes", "--leonardo-url", url, "--output", "json", *more)
        leo(*command, "--audit-file", f"audit/{number}.jsonl")
    leo("review-audit-log", "report", "--from", "audit", "--html", "report.html")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=960,620")
    page = Path("report.html").resolve().as_uri()
    subprocess.run(["chromium", *flags, f"--screenshot={HERE / 'report.png'}", page], check=True, capture_output=True)  # noqa: S607


def main() -> None:
    with serving(made_up(60, seed=11)) as server, TemporaryDirectory() as folder:
        os.chdir(folder)
        terminal(server.url)
        report(server.url)


if __name__ == "__main__":
    main()
