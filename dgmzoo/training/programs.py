"""Which of several seeds train in one program, by where each stands."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from dgmzoo.training.checkpoint import Checkpoints


class Place(NamedTuple):
    """Where a seed's run is kept, and how far it is known to be."""

    seed: int
    latest: Checkpoints
    claimed: bool
    """Whether a call before this one began it."""
    measured: bool
    """Whether it has a result."""


def grouped(places: Sequence[Place]) -> list[list[int]]:
    """Seeds by program, to be trained in turn; no intact checkpoint is given up for another seed's sake.

    Those that have not begun train together, and those whose last program was the same: from a step in common, where one
    was killed between the checkpoints of the others, and anew, where it was killed before its own first one. What has been
    measured goes back for none.
    """
    intact = {place.seed: place.latest.intact() for place in places}
    found: dict[tuple, list[Place]] = {}
    for place in places:
        if saved := list(intact[place.seed].items()):
            step, progress = saved[-1]
            found.setdefault((tuple(progress["together"]), step if place.measured else None), []).append(place)
    new: list[Place] = []
    for place in places:
        if not intact[place.seed]:
            cut_short = [group for key, group in found.items() if place.seed in key[0] and _is_first(group, intact)]
            (cut_short[0] if cut_short and place.claimed else new).append(place)
    programs = [new] if new else []
    for group in found.values():
        steps = [set(intact[place.seed]) for place in group if intact[place.seed]]
        programs += [group] if set.intersection(*steps) else [[place] for place in group]
    order = [place.seed for place in places]
    return [sorted((place.seed for place in group), key=order.index) for group in programs]


def _is_first(group: Sequence[Place], intact: dict[int, dict[int, dict[str, Any]]]) -> bool:
    """Whether all that a group ever wrote was its first checkpoint."""
    saved = [progress for place in group for progress in intact[place.seed].values()]
    return all(progress.get("first") for progress in saved) and not any(place.measured for place in group)
