"""Whatever befalls a training, nothing is lost: a short form of `python -m tests.tools.faults`."""

import random

import pytest

from tests.support.interruptions import Ground, Skipped
from tests.tools.faults import FAULTS


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Ground:
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    return Ground(tmp_path_factory.mktemp("faults"), kills=2, chance=random.Random(seed))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_nothing_is_lost(fault, ground):
    try:
        print(fault(ground, ground.root / fault.__name__))
    except Skipped as skipped:
        pytest.skip(str(skipped))
