"""Posteriors q(z | features) of `VariationalLayer`."""
