"""`check`: test the properties of a model; `unbiased`: test a gradient; `check_bijection`: test an invertible map.

`check` tests a module with its batch. `unbiased` tests the gradient of an objective. `check_bijection` and
`check_autoregressive` test the functions that a density is built from. Nothing here needs pytest.
"""

from dgmzoo.testing.battery import LAWS, check
from dgmzoo.testing.bijections import check_autoregressive, check_bijection
from dgmzoo.testing.gradients import GradientComparison, unbiased
from dgmzoo.testing.report import BatteryError, Outcome, Report

__all__ = [
    "LAWS",
    "BatteryError",
    "GradientComparison",
    "Outcome",
    "Report",
    "check",
    "check_autoregressive",
    "check_bijection",
    "unbiased",
]
