"""The public interface of dgmzoo: models, objectives, layers, distributions, and functions to run experiments.

The names below are imported on first use, so that `import dgmzoo` and `dgmzoo list` do not import JAX or Flax.
"""

import importlib
import pathlib

if (pathlib.Path(__file__).parent / "experiments").is_file():
    raise ImportError(
        "expected dgmzoo/experiments to be a link to the folder experiments/, got a file: the checkout was made without "
        "symbolic links; run `git config core.symlinks true` and check out again, or put a copy of the folder there"
    )

_NAMES_OF_MODULE = {
    "api": ("experiment", "train"),
    "loading": ("export", "load"),
    "comparison.run": ("Comparison", "compare"),
    "config.experiment": ("Diagnostic", "Evaluation", "Experiment", "Paper"),
    "config.training": ("Execution", "Training"),
    "config.names": ("register",),
    "data": ("Data", "from_arrays"),
    "files": ("CannotWrite",),
    "layers.conditional": ("Conditional", "factorized"),
    "layers.flows.base": ("Bijection", "Flow", "Inverse"),
    "layers.flows.density": ("FlowDensity",),
    "layers.flows.elements": ("Affine", "ElementMap", "Spline"),
    "layers.flows.maps": ("ActNorm", "Autoregressive", "Coupling", "LULinear", "Permutation"),
    "layers.latents.base": ("LatentLayer",),
    "layers.latents.categorical": ("CategoricalLayer",),
    "layers.latents.horseshoe": ("HorseshoeLayer",),
    "layers.latents.piecewise": ("PiecewiseLayer",),
    "layers.latents.point": ("PointLayer",),
    "layers.latents.rectified": ("RectifiedLayer",),
    "layers.latents.spherical": ("SphericalLayer",),
    "layers.latents.variational": ("VariationalLayer",),
    "layers.likelihoods.base": ("Likelihood",),
    "layers.likelihoods.bernoulli": ("Bernoulli",),
    "layers.likelihoods.categorical": ("Categorical",),
    "layers.likelihoods.discretized": ("DiscretizedLogistic", "DiscretizedLogisticMixture"),
    "layers.likelihoods.mixture": ("MixtureOfNormals",),
    "layers.likelihoods.normal": ("Normal",),
    "layers.likelihoods.tokens": ("Tokens",),
    "layers.networks.call": ("apply_network",),
    "layers.networks.causal": ("GatedCausalStack", "MaskedConv"),
    "layers.networks.context": ("context_features",),
    "layers.networks.convolutional": ("ConvDecoder", "ConvEncoder"),
    "layers.networks.masked": ("MaskedDense", "MaskedMLP"),
    "layers.networks.mlp": ("MLP", "network"),
    "layers.posteriors.base": ("FactorizedPosterior", "Posterior"),
    "layers.posteriors.flow": ("InverseAutoregressivePosterior",),
    "layers.priors.base": ("LearnedPrior", "Prior", "StandardPrior"),
    "layers.priors.flow": ("FlowPrior",),
    "layers.priors.vamp": ("VampPrior",),
    "layers.sampling": ("ancestral", "from_rows", "over_time"),
    "layers.weights.base": ("PiecewiseWeights", "PointWeights", "RectifiedWeights", "VariationalWeights", "Weights"),
    "layers.weights.horseshoe": ("HorseshoeWeights",),
    "layers.weights.linear": ("VariationalConv", "VariationalDense"),
    "model.compatibility": ("Facts", "Needs"),
    "model.contract": ("Draw", "Evidence", "Latent", "LossContext", "Model", "Query"),
    "model.functional": ("functional",),
    "objectives.base": ("Objective", "finish"),
    "objectives.elbo": ("ELBO",),
    "objectives.importance": ("DReG", "IWAE"),
    "objectives.score_function": ("NVIL",),
    "reparam.distributions": (
        "Horseshoe",
        "NormalMixture",
        "PiecewiseNormal",
        "PowerSpherical",
        "RectifiedNormal",
        "SpikeAndSlab",
        "UniformSphere",
    ),
    "report.pictures.draw": ("picture",),
    "run": ("Run",),
    "training.loop": ("Interrupted", "NonFinite"),
    "zoo.ddnn.eonade": ("EoNADE",),
    "zoo.ddnn.gated_pixel_cnn": ("GatedPixelCNN",),
    "zoo.ddnn.made": ("MADE",),
    "zoo.ddnn.maf": ("MAF",),
    "zoo.ddnn.mixture_density_network": ("MixtureDensityNetwork",),
    "zoo.ddnn.nade": ("NADE",),
    "zoo.ddnn.nsf": ("NSF",),
    "zoo.ddnn.pixel_cnn": ("PixelCNN",),
    "zoo.ddnn.realnvp": ("RealNVP",),
    "zoo.ddnn.regression": ("Regression",),
    "zoo.ddnn.rnade": ("RNADE",),
    "zoo.dvae.sigmoid_belief_network": ("SigmoidBeliefNetwork",),
    "zoo.vae.hierarchical_vae": ("HierarchicalVAE",),
    "zoo.vae.vae": ("VAE",),
}
_MODULE_OF_NAME = {name: module for module, names in _NAMES_OF_MODULE.items() for name in names}
__all__ = sorted(_MODULE_OF_NAME)


def __getattr__(name: str):
    if name == "testing":
        return importlib.import_module("dgmzoo.testing")
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module 'dgmzoo' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dgmzoo.{_MODULE_OF_NAME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
