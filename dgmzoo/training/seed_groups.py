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
    """Seeds by program, to be trained in turn.

    Those that have not begun train together, and those whose last program was the same. Of these, where one was killed
    between the checkpoints of the others, or lost its newest to damage, all go on from the step before, and where it was
    killed before its own first one, all begin anew: no more is given up than the time from one checkpoint to the next, and
    the numbers stay those of one program. What has been measured goes on by itself, and so do those that share no step.
    Those of which nothing is intact come first: they are refused before others train.
    """
    intact = {place.seed: place.latest.intact() for place in places}
    written = {place.seed: place.latest.written() for place in places}
    found: dict[tuple, list[Place]] = {}
    new: list[Place] = []
    lost: list[Place] = []
    for place in places:
        saved = list(intact[place.seed].items())
        if not written[place.seed]:
            new.append(place)
        elif not saved:
            lost.append(place)
        else:
            step, progress = saved[-1]
            found.setdefault((tuple(progress["together"]), step if place.measured else None), []).append(place)
    for (together, step), group in found.items():
        if step is None and all(len(written[place.seed]) == 1 and _first(intact[place.seed]) for place in group):
            cut_short = [place for place in new if place.seed in together and place.claimed and not place.measured]
            group += cut_short
            new = [place for place in new if place not in cut_short]
    programs = [[place] for place in lost]
    programs += [new] if new else []
    for group in found.values():
        steps = [set(intact[place.seed]) for place in group if intact[place.seed]]
        programs += [group] if set.intersection(*steps) else [[place] for place in group]
    order = [place.seed for place in places]
    return [sorted((place.seed for place in group), key=order.index) for group in programs]


def _first(saved: dict[int, dict[str, Any]]) -> bool:
    """Whether all that a run ever wrote was its first checkpoint."""
    return all(progress.get("first", False) for progress in saved.values())
