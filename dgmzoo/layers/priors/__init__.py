"""Priors p(z) and p(z | above) of `VariationalLayer`."""
