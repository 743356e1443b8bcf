"""Posteriors q(z | features), which plug into `VariationalLayer`."""
