"""The posteriors q(z | features) that a variational layer can have."""
