"""Which ids were met before: exact, and about a bit for each where they lie as close as a database deals them out."""

from collections import defaultdict

OF_A_PAGE = 256
"""Ids that share an entry. With more, an entry for few scattered ids grows; with fewer, close ids need more entries."""


class SeenIds:
    """A set of whole numbers that only grows: a million ids as strings would take 100 MB."""

    def __init__(self) -> None:
        self._pages: defaultdict[int, int] = defaultdict(int)

    def add(self, number: int) -> bool:
        """Whether it is new."""
        page, within = divmod(number, OF_A_PAGE)
        before = self._pages[page]
        after = self._pages[page] = before | 1 << within
        return after != before

    def __contains__(self, number: int) -> bool:
        page, within = divmod(number, OF_A_PAGE)
        return bool(self._pages.get(page, 0) >> within & 1)
