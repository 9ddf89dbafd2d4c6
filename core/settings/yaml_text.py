"""YAML as it is written: every scalar stays text, and no key counts twice; what it says is read elsewhere."""

from pathlib import Path
from typing import Any


def load_yaml(text: str, name: str) -> Any:
    """YAML with every scalar as text. Raises ValueError."""
    import yaml  # noqa: PLC0415 - most runs have no such file

    class UniqueKeys(yaml.BaseLoader):
        """Every scalar stays the text that was written (no 1e3, no `off` as False), and no key counts twice."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            repeated = {str(key) for key in keys if keys.count(key) > 1}
            if repeated:
                line = node.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: written twice: {', '.join(sorted(repeated))}")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader=UniqueKeys)  # noqa: S506 - a BaseLoader builds nothing but text, lists and dicts
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        raise ValueError(f"{name} is no readable YAML: {' '.join(str(error).split())}") from None


def lines_of_entries(text: str) -> list[int]:
    """The number of the line on which each entry of a list begins."""
    import yaml  # noqa: PLC0415

    entries = yaml.compose(text, Loader=yaml.BaseLoader)
    return [] if entries is None else [entry.start_mark.line + 1 for entry in entries.value]


def read_text(path: Path) -> str:
    """Without the mark that some editors put in front, and with plain line ends. Raises ValueError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ValueError(f"{str(path)!r} cannot be read: {reason}") from None
