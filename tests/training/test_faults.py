"""A training survives every fault of `python -m tests.tools.faults`, here with fewer kills."""

import random

import pytest

from tests.support.interruptions import NotPossible, Reference
from tests.tools.faults import FAULTS

pytestmark = pytest.mark.thorough  # test_resume.py kills a training in the quick tier


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Reference:
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    return Reference(tmp_path_factory.mktemp("faults"), kills=2, chance=random.Random(seed))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_training_survives(fault, reference):
    try:
        print(fault(reference, reference.root / fault.__name__))
    except NotPossible as reason:
        pytest.skip(str(reason))
