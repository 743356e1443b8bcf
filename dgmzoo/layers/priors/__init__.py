"""The priors p(z) that a variational layer can have, which may depend on the layer above."""
