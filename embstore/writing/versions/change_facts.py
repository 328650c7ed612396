"""What the ``source`` of a store says after a change.

It keeps saying where the table came from. The numbers that describe all rows, such as the largest
error of a cast, are those of old and new rows together. ``changes`` counts the changes, and
``last_change`` tells of the last one, as the ``source`` of a build would, but not of the origins of
the store that the rows come from: of two stores that take rows from each other, these would grow
with each change.
"""

from __future__ import annotations

from typing import Any, Final

_ADDED: Final = ("duplicate_count", "overflow_count", "non_finite_row_count")
_LARGEST: Final = ("largest_cast_error", "largest_encoding_error")
_SMALLEST: Final = ("smallest_cosine",)
# Of the rows of a build; what they would be with other rows is not known.
_MEANS: Final = ("mean_encoding_error", "mean_cosine")


def change_facts(old: dict[str, Any], kind: str, new: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about a table after a change.

    Parameters
    ----------
    old : dict
        The facts before it.
    kind : str
        The kind of change.
    new : dict
        The facts about the rows of this change.

    Examples
    --------
    >>> facts = change_facts({"file": "a.txt", "duplicate_count": 1}, "append",
    ...                      {"file": "b.txt", "duplicate_count": 2})
    >>> facts["file"], facts["duplicate_count"], facts["last_change"]["file"], facts["changes"]
    ('a.txt', 3, 'b.txt', 1)
    """
    facts = {name: value for name, value in old.items() if name not in _MEANS}
    for names, join in ((_ADDED, _sum), (_LARGEST, max), (_SMALLEST, min)):
        for name in names:
            if name in new:
                facts[name] = _joined(old, new, name, join)
    made = old.get("changes")
    facts["changes"] = made + 1 if isinstance(made, int) else 1
    its_facts = {name: value for name, value in new.items() if name != "origins"}
    facts["last_change"] = {"kind": kind} | its_facts
    return facts


def _sum(one: Any, other: Any) -> Any:
    return one + other


def _joined(old: dict[str, Any], new: dict[str, Any], name: str, join: Any) -> Any:
    """Return a number for old and new rows; None if one is not known."""
    if name not in old:
        return new[name]
    one, other = old[name], new[name]
    are_numbers = all(isinstance(value, int | float) for value in (one, other))
    return join(one, other) if are_numbers else None
