"""`make_variants`: make the experiments of a comparison, one per latent layer and one per set of overrides."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dgmzoo.config import overrides
from dgmzoo.config.experiment import Experiment
from dgmzoo.config.names import LATENTS
from dgmzoo.layers.latents.base import LatentLayer, variational_layers
from dgmzoo.layers.latents.variational import VariationalLayer

Overrides = Mapping[str, Any]  # path -> value


def make_variants(
    base: Experiment, layers: Sequence[str], changes: Sequence[Overrides] | Mapping[str, Overrides]
) -> dict[str, Experiment]:
    """Name -> experiment, for every layer and every set of overrides.

    Args:
      base: the experiment that is varied.
      layers: names of latent layers. A variant has this layer in place of every latent layer of the base. A layer that
        is of this kind already keeps its settings.
      changes: overrides by the name of their variant, or a list of overrides, which are named after their contents.

    >>> import dgmzoo
    >>> list(make_variants(dgmzoo.experiment("vae/digits"), ["normal", "horseshoe"], {"narrow": {"model.latent_dim": 1}}))
    ['normal', 'horseshoe', 'narrow']

    Raises:
      ValueError: there is no variant, two have the same name, or one does not fit; the message contains its name.
    """
    requests = _layer_requests(base, layers) + _override_requests(changes)
    if not requests:
        raise ValueError("expected layers or overrides to compare, got neither; name some, such as normal,horseshoe")
    variants: dict[str, Experiment] = {}
    for name, change in requests:
        _check_request(name, change, variants)
        try:
            variants[name] = overrides.override(base, change)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return variants


def _layer_requests(base: Experiment, layers: Sequence[str]) -> list[tuple[str, Overrides]]:
    """Name and overrides of the variant of each layer."""
    if not layers:
        return []
    present = dict(variational_layers(base.model))
    if not present:
        raise ValueError(
            f"expected an entry with variational layers to compare {', '.join(layers)}, "
            f"got {type(base.model).__name__} without; use overrides"
        )
    return [(kind, {path: kind for path, layer in present.items() if not _is_kind(layer, kind)}) for kind in layers]


def _override_requests(changes: Sequence[Overrides] | Mapping[str, Overrides]) -> list[tuple[str, Overrides]]:
    """Name and overrides of the variant of each set of overrides."""
    named = changes if isinstance(changes, Mapping) else {_written(change): change for change in changes}
    if len(named) < len(changes):
        raise ValueError(
            "expected overrides that differ in what is written of them, got some alike; name them: {name: {...}}"
        )
    return list(named.items())


def _written(change: Overrides) -> str:
    return " ".join(f"{path}={overrides.plain(value)}" for path, value in change.items()) or "base"


def _check_request(name: str, change: Overrides, variants: Mapping[str, Experiment]) -> None:
    """Refuse a name without letters or equal to another, and overrides that make results incomparable."""
    if not re.search(r"\w", name):
        raise ValueError(f"expected the name of a variant to have a letter or a digit, got {name!r}")
    equal = [other for other in variants if directory_name(other) == directory_name(name)]
    if equal:
        raise ValueError(f"expected variants with different names, got {equal[0]!r} and {name!r}")
    for path in change:
        if path.split(".")[0] in ("data", "evaluation"):
            raise ValueError(
                f"expected variants of the model, its objective or training, got {path!r}; "
                "values on other data or by other measures do not compare"
            )


def _is_kind(layer: LatentLayer, kind: str) -> bool:
    """True if the layer is of the kind already.

    The layer named `normal` accepts any posterior and counts as this kind only with a normal posterior.
    """
    cls = LATENTS.get(kind)
    if type(layer) is not cls:
        return False
    return cls is not VariationalLayer or layer.posterior == cls.posterior


def retained_settings(kind: str, base: Experiment) -> str:
    """Settings of the base's layers of this kind that differ from the defaults of the kind, such as `model.latent.slab=0.5`."""
    return ", ".join(
        f"{path}.{field}={value}"
        for path, layer in variational_layers(base.model)
        if _is_kind(layer, kind)
        for field, value in _changed_fields(layer).items()
    )


def _changed_fields(part: Any) -> dict[str, Any]:
    """Field -> value, of the fields that differ from the defaults of the part's kind."""
    defaults, fields = overrides.flatten(type(part)()), overrides.flatten(part)
    return {field: value for field, value in fields.items() if defaults.get(field) != value}


def describe_variant(base: Experiment, variant: Experiment) -> str:
    """The settings of a variant that differ from those of the base, in words.

    >>> import dgmzoo
    >>> base = dgmzoo.experiment("vae/digits")
    >>> describe_variant(base, dgmzoo.experiment("vae/digits", {"objective": "iwae", "objective.num_samples": 5}))
    'objective iwae (elbo in the experiment), objective.num_samples 5'
    >>> describe_variant(base, dgmzoo.experiment("vae/digits", {"model.latent_dim": 3}))
    'model.latent_dim 3 (20 in the experiment)'
    >>> describe_variant(base, base)
    'the experiment as it stands'
    """
    before, after = overrides.flatten(base), overrides.flatten(variant)
    changed = {path: before[path] for path, value in after.items() if path in before and before[path] != value}
    texts = {path: f"{path} {after[path]} ({former} in the experiment)" for path, former in changed.items()}
    for path in [path for path in changed if any(other.startswith(f"{path}.") for other in after)]:
        own = [f"{path}.{field}" for field in _changed_fields(_part(variant, path))]  # settings of a new part
        own += [other for other in changed if other.startswith(f"{path}.")]
        texts |= {setting: f"{setting} {after[setting]}" for setting in own}
    return ", ".join(texts.values()) or "the experiment as it stands"


def _part(experiment: Experiment, path: str) -> Any:
    """The part of an experiment at a path such as `model.latents.0`."""
    part: Any = experiment
    for name in path.split("."):
        part = part[int(name)] if isinstance(part, list | tuple) else getattr(part, name)
    return part


def directory_name(variant: str) -> str:
    """Name of the directory of a variant: unusual characters are replaced, and long names end in a digest.

    >>> directory_name("model.latent.prior=Laplace objective=iwae")
    'model.latent.prior=Laplace_objective=iwae'
    """
    short = re.sub(r"[^A-Za-z0-9._=-]+", "_", variant)
    return short if len(short) <= 100 else f"{short[:90]}-{hashlib.sha256(variant.encode()).hexdigest()[:9]}"
