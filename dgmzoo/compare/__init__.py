"""Comparison of variants of an experiment: training, measurement, table and figure.

The package has the same name as the public function `dgmzoo.compare`. Python binds an imported package to its name in the
parent package, which would hide the function. The package can therefore be called like the function.
"""

import sys
import types


class _CallablePackage(types.ModuleType):
    def __call__(self, *args, **kwargs):
        """Call `dgmzoo.compare.run.compare`, whose docstring lists the arguments."""
        from dgmzoo.compare.run import compare

        return compare(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
