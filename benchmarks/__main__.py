"""Runs every measurement and prints one table."""

from benchmarks import acting, autopause, listing, reviewing, sharing, simulating, starting, year
from benchmarks.table import HEAD


def main() -> None:
    print(HEAD)
    for subject in (starting, listing, acting, autopause, reviewing, simulating, sharing, year):
        for row in subject.rows():
            print(row, flush=True)


if __name__ == "__main__":
    main()
