"""Posteriors q(z | features) for `VariationalLayer`."""
