"""Typed command-line options for every field of an experiment and its module, by tyro."""

import dataclasses
import shlex
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import docstring_parser
import flax.linen as nn
import numpyro.distributions as dist
import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from dgmzoo.config import overrides
from dgmzoo.config.experiment import Experiment, load
from dgmzoo.config.names import choices, family
from dgmzoo.config.training import LENGTHS


@dataclasses.dataclass(frozen=True)
class Train:
    """What `dgmzoo train` takes beside the experiment's name."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    """The experiment."""
    run_dir: Path | None = None
    """Where to keep the run; a run that was stopped there goes on. None: runs/NAME/seed-N."""
    seeds: int | None = None
    """Train this many seeds at once, from --seed on, each in RUN_DIR/seed-N."""
    seed: int = 0
    """Of initial values, order of the rows and noise."""
    writers: tuple[Literal["csv", "tensorboard"], ...] = ()
    """Copies of metrics.jsonl for other programs: metrics.csv, or event files in tensorboard/."""
    coordinator: str | None = None
    """Train in several processes, each started with this command: HOST:PORT of process 0; auto where a cluster tells."""
    processes: int | None = None
    """How many they are."""
    process: int | None = None
    """Which of them this is, from 0."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """What `dgmzoo bench` takes beside the experiment's name."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    """The experiment."""
    num_epochs: int = 5
    """Epochs that are timed, after one that compiles."""
    layers: str | None = None
    """Instead: training steps with each of these layers of latents, in turns: `normal,horseshoe,rectified,piecewise`."""
    profile: Path | None = None
    """Folder for a JAX trace of one more epoch."""
    json: bool = False
    """Print one line of JSON."""


@dataclasses.dataclass(frozen=True)
class Compare:
    """What `dgmzoo compare` takes beside the experiment's name."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    """The experiment; these options hold for all variants."""
    layers: str | None = None
    """Variational layers, each a variant, the first the one that others are compared with: normal,horseshoe. One of the
    experiment's own kind keeps its settings (--model.latent.slab 0.5), the others have their defaults."""
    variants: tuple[str, ...] = ()
    """Further variants, each in quotes: "model.latent.prior=Laplace" "objective=iwae objective.num-samples=5" "model.latent.learned-prior=True"; base is the experiment as it stands."""
    seeds: int = 3
    """Number of seeds; all variants have the same, from --seed on."""
    seed: int = 0
    """The first: of initial values, order of the rows and noise."""
    run_dir: Path | None = None
    """Where to keep runs, table and figure; what has ended there is not trained again. None: runs/NAME/compare."""
    json: bool = False
    """Print the records as JSON instead of the table."""


T = typing.TypeVar("T", Train, Bench, Compare)


def parse(kind: type[T], name: str, arguments: Sequence[str]) -> T:
    """The options of `dgmzoo VERB NAME`. Exits with status 2 and a message on those that do not fit."""
    return _parse(kind, name, load(name), arguments)


def changed(base: Experiment, name: str, variant: str) -> dict[str, Any]:
    """The overrides that a variant's text asks for: `field=value`s, read as the options of these names are.

    What is true or false is spelled so, `model.latent.noise=False`. Exits with status 2 where a value does not fit.

    Raises:
      ValueError: the text has another form, or gives an experiment that is refused.
    """
    words: list[str] = []
    for word in [] if variant == "base" else shlex.split(variant):
        option, given, value = word.partition("=")
        if not given and not words:
            raise ValueError(f"expected a variant such as 'objective=iwae objective.num-samples=5', got {variant!r}")
        words += [f"--{option.removeprefix('--')}", value] if given else [word]  # a tuple's further values
    try:
        asked = _parse(Compare, f"{name} --variants {variant!r}", base, words, tyro.conf.FlagConversionOff)
    except ValueError as error:
        raise ValueError(f"variant {variant!r}: {error}") from error
    return overrides.difference(base, asked.experiment)


def _parse(kind: type[T], name: str, base: Experiment, arguments: Sequence[str], *settings: Any) -> T:
    chosen, rest = _chosen(base, list(arguments))
    base = overrides.override(base, chosen)
    lengths = [length for length in LENGTHS if any(_is_option(word, f"training.{length}") for word in rest)]
    if lengths:  # the length given takes the place of the experiment's own
        base = overrides.override(base, {f"training.{lengths[0]}": 1})
    with _registry():
        return tyro.cli(
            kind,
            args=rest,
            prog=f"dgmzoo {kind.__name__.lower()} {name}",
            description=_description(base),
            default=kind(base),
            config=(tyro.conf.AvoidSubcommands, *settings),
        )


def _chosen(base: Experiment, words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options that name a class, such as `--objective iwae`, and the words that are left."""
    chosen, rest = {}, []
    while words:
        word = words.pop(0)
        option, given, value = word.partition("=")
        path = option.removeprefix("--").replace("-", "_")
        if option.startswith("--") and path in _choosable(base):
            if not given and (not words or words[0].startswith("--")):
                raise ValueError(f"expected one of {', '.join(_choosable(base)[path])} after {option}")
            chosen[path] = value if given else words.pop(0)
        else:
            rest.append(word)
    return chosen, rest


def _choosable(part: Any, path: str = "") -> dict[str, list[str]]:
    """Path -> names, of the parts that are chosen by name."""
    if overrides.is_part(part):
        below = {name: getattr(part, name) for name in overrides.fields(part)}
    else:
        below = overrides.parts_in(part) or {}
    named = path and choices(part)
    found = {path: list(named)} if named else {}
    for name, value in below.items():
        found |= _choosable(value, f"{path}.{name}" if path else name)
    return found


def _description(base: Experiment) -> str:
    lines = [f"--{path} {{{','.join(names)}}}" for path, names in _choosable(base).items()]
    return "Every field of the experiment can be overridden. Parts are chosen by name: " + ", ".join(lines)


def _is_option(word: str, path: str) -> bool:
    return word.partition("=")[0].removeprefix("--").replace("-", "_") == path and word.startswith("--")


def _registry() -> ConstructorRegistry:
    registry = ConstructorRegistry()
    registry.struct_rule(_part_rule)
    registry.primitive_rule(_family_rule)
    return registry


def _part_rule(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Linen modules and config dataclasses, without the fields that are not a user's to set."""
    part = info.default
    if not isinstance(part, nn.Module) and not (
        overrides.is_part(part) and type(part).__module__.startswith("dgmzoo.")
    ):
        return None
    if isinstance(part, Train | Bench | Compare):
        return None
    hints = overrides.type_hints(type(part))
    shown, texts = [], {}
    for parent in reversed(type(part).__mro__[:-1]):  # fields of a parent are explained there
        if dataclasses.is_dataclass(parent) and parent.__module__.partition(".")[0] != "flax":
            texts |= {each.arg_name: each.description for each in docstring_parser.parse_from_object(parent).params}
    own = ("parent", "name") if isinstance(part, nn.Module) else ()  # Flax's own
    kept = {field.name: getattr(part, field.name) for field in dataclasses.fields(part) if field.name not in own}
    for name in overrides.fields(part):
        if isinstance(kept[name], Mapping) or (
            callable(kept[name]) and not isinstance(kept[name], type) and not overrides.is_part(kept[name])
        ):
            continue  # functions have no spelling on the command line
        default = kept.pop(name)
        shown.append(StructFieldSpec(name=name, type=hints[name], default=default, helptext=texts.get(name)))
    return StructConstructorSpec(instantiate=lambda **given: type(part)(**kept, **given), fields=tuple(shown))


def _family_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Distribution families by their class's name."""
    if info.type != type[dist.Distribution]:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="FAMILY",
        instance_from_str=lambda words: family(words[0]),
        is_instance=lambda value: isinstance(value, type) and issubclass(value, dist.Distribution),
        str_from_instance=lambda value: [value.__name__],
    )
