"""Priors p(z) and p(z | above), which plug into `VariationalLayer`."""
