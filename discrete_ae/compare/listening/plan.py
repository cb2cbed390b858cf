"""What a listener hears, in which order: every clip once, every condition of it once, both in random order (§5.3)."""

import random
from collections.abc import Sequence
from typing import NamedTuple


class Trial(NamedTuple):
    """One clip with all of its conditions, rated side by side."""

    clip: str
    conditions: tuple[str, ...]
    """Keys, in the order in which they are numbered on the page."""


class Plan(NamedTuple):
    """A session from its beginning to its end."""

    trials: tuple[Trial, ...]
    practice: Trial
    """On the clip that comes last, and in another order; its ratings are not kept."""


def plan(clips: Sequence[str], conditions: Sequence[str], seed: int) -> Plan:
    """The session of a seed: the same for the same clips, conditions and seed, in whatever order these are given.

    Args:
        clips: names, at least one.
        conditions: keys.
        seed: of all the orders.
    """
    # Python promises the same numbers of random() for ever, not the same shuffle().
    generator = random.Random(seed)

    def shuffled(names: Sequence[str]) -> tuple[str, ...]:
        drawn = {name: generator.random() for name in sorted(names)}
        return tuple(sorted(drawn, key=drawn.__getitem__))

    trials = tuple(Trial(clip, shuffled(conditions)) for clip in shuffled(clips))
    return Plan(trials, Trial(trials[-1].clip, shuffled(conditions)))
