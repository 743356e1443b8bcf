"""Priors p(z) and p(z | above) for `VariationalLayer`."""
