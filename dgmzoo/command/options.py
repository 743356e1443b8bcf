"""`parse`: read the command-line options of a subcommand; `variant_overrides`: read the settings of one variant."""

import dataclasses
import functools
import operator
import shlex
import types
import typing
from collections.abc import Callable, Mapping, Sequence
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

from dgmzoo.config.experiment import Experiment, load_experiment
from dgmzoo.config.fields import axis_of, fields, is_part, type_hints
from dgmzoo.config.names import axis_of_value, family, names_of
from dgmzoo.config.overrides import override, parts_in


@dataclasses.dataclass(frozen=True)
class Train:
    """Options of `dgmzoo train` beside the experiment's name."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    """The experiment."""
    run_dir: Path | None = None
    """Directory of the run; a run that was stopped there is resumed. None: runs/NAME/seed-N."""
    seeds: int | None = None
    """Train this many seeds at once, from --seed on, each in RUN_DIR/seed-N."""
    seed: int = 0
    """Seed of initial values, order of the rows and noise."""
    writers: tuple[Literal["csv", "tensorboard"], ...] = ()
    """Copies of metrics.jsonl for other programs: metrics.csv, or event files in tensorboard/."""
    coordinator: str | None = None
    """Train in several processes, each started with this command: HOST:PORT of process 0; auto on a cluster."""
    processes: int | None = None
    """Number of processes."""
    process: int | None = None
    """Number of this process, from 0."""
    trust_code: bool = False
    """Run the experiment file that a run directory from elsewhere, given as NAME, keeps. Read the file first."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """Options of `dgmzoo bench` beside the experiment's name."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    """The experiment."""
    num_epochs: int = 5
    """Timed epochs, after one that compiles."""
    layers: str | None = None
    """Instead: time training steps with each of these latent layers, in turns: `normal,horseshoe,rectified,piecewise`."""
    profile: Path | None = None
    """Folder for a JAX trace of one more epoch."""
    json: bool = False
    """Print one line of JSON."""


@dataclasses.dataclass(frozen=True)
class Compare:
    """Options of `dgmzoo compare` beside the experiment's name."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    """The experiment; these options hold for all variants."""
    layers: str | None = None
    """Latent layers, each a variant; the others are compared with the first: normal,horseshoe. A layer of the
    experiment's own kind keeps its settings (--model.latent.slab 0.5), the others have their defaults."""
    variants: tuple[str, ...] = ()
    """Further variants, each in quotes: "model.latent.prior=Laplace" "objective=iwae objective.num-samples=5" "model.latent.prior=learned"; base is the experiment as it stands."""
    seeds: int = 3
    """Number of seeds; all variants have the same, from --seed on."""
    seed: int = 0
    """The first seed of initial values, order of the rows and noise."""
    run_dir: Path | None = None
    """Directory of runs, table and figure; runs that are measured there are not trained again. None: runs/NAME/compare."""
    json: bool = False
    """Print the records as JSON instead of the table."""


T = typing.TypeVar("T", Train, Bench, Compare)


def parse(kind: type[T], name: str, arguments: Sequence[str], base: Experiment | None = None) -> T:
    """The options of `dgmzoo VERB NAME`, with the experiment they give.

    Exits with status 2 and a message on options that do not fit.

    Args:
      base: the experiment; None: that of the name.
    """
    base = load_experiment(name) if base is None else base
    options, overrides = _parse(kind, name, base, arguments)
    return dataclasses.replace(options, experiment=override(base, overrides))


def variant_overrides(base: Experiment, name: str, variant: str) -> dict[str, Any]:
    """The overrides of a variant's text, `field=value` words with the names and the values of the command's options.

    True and false are spelled out: `training.remat=False`. Exits with status 2 where a value does not fit.

    Raises:
      ValueError: the text has another form, or gives an experiment that is refused.
    """
    words: list[str] = []
    for word in [] if variant == "base" else shlex.split(variant):
        option, equals, value = word.partition("=")
        if not equals and not words:
            raise ValueError(f"expected a variant such as 'objective=iwae objective.num-samples=5', got {variant!r}")
        words += [f"--{option.removeprefix('--')}", value] if equals else [word]  # further values of a tuple
    options = {field.name for field in dataclasses.fields(Compare)}
    for word in words:
        if word.startswith("--") and word.removeprefix("--").replace("-", "_") in options:
            raise ValueError(f"expected fields of the experiment in a variant, got {word.removeprefix('--')!r}")
    try:
        _, overrides = _parse(Compare, f"{name} --variants {variant!r}", base, words, tyro.conf.FlagConversionOff)
        override(base, overrides)
    except ValueError as error:
        raise ValueError(f"variant {variant!r}: {error}") from error
    return overrides


class _Values(dict):
    """Values of a part's fields, as parsed. The part itself is built once, by `override`."""


def _parse(
    kind: type[T], name: str, base: Experiment, arguments: Sequence[str], *settings: Any
) -> tuple[T, dict[str, Any]]:
    """The verb's own options, and the requested overrides of the experiment."""
    chosen, rest = _chosen(base, list(arguments))
    base = override(base, chosen)
    with _registry():
        options = tyro.cli(
            kind,
            args=rest,
            prog=f"dgmzoo {kind.__name__.lower()} {name}",
            description=_description(base),
            default=kind(base),
            config=(tyro.conf.AvoidSubcommands, *settings),
        )
    verb_options = {field.name for field in dataclasses.fields(kind)}
    requested = {}
    for word in rest:
        path = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and path.removeprefix("no_") not in verb_options:
            parent, _, field = path.rpartition(".")
            candidates = [path, ".".join([parent, field.removeprefix("no_")])]  # --training.no-remat
            path = next(path for path in candidates if _has(options.experiment, path))
            requested[path] = _get(options.experiment, path)
    return options, chosen | requested


def _get(values: Any, path: str) -> Any:
    """The parsed value of a path such as `training.epochs` or `model.latents.0.slab`."""
    for name in path.split("."):
        if isinstance(values, list | tuple):
            values = values[int(name)]
        else:
            values = values[name] if isinstance(values, Mapping) else getattr(values, name)
    return values


def _has(values: Any, path: str) -> bool:
    try:
        _get(values, path)
    except (LookupError, ValueError, AttributeError):
        return False
    return True


def _chosen(base: Experiment, words: list[str]) -> tuple[dict[str, str], list[str]]:
    """The options that choose a part by name, such as `--objective iwae`, and the other words."""
    chosen, rest = {}, []
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        path = option.removeprefix("--").replace("-", "_")
        if option.startswith("--") and path in _choosable(base):
            if not equals and (not words or words[0].startswith("--")):
                raise ValueError(f"expected one of {', '.join(_choosable(base)[path])} after {option}")
            chosen[path] = value if equals else words.pop(0)
        else:
            rest.append(word)
    return chosen, rest


def _choosable(part: Any, path: str = "", axis: str | None = None) -> dict[str, list[str]]:
    """Path -> names, of every part that is chosen by name."""
    if is_part(part):
        below = {name: (getattr(part, name), axis_of(type(part), name)) for name in fields(part)}
        axis = axis or axis_of_value(part)
        names = {path: names_of(axis)} if path and axis else {}
    else:
        below = {name: (item, axis) for name, item in (parts_in(part) or {}).items()}
        names = {path: names_of(axis)} if path and axis and part is None else {}
    for name, (value, its_axis) in below.items():
        names |= _choosable(value, f"{path}.{name}" if path else name, its_axis)
    return names


def _description(base: Experiment) -> str:
    lines = [f"--{path} {{{','.join(names)}}}" for path, names in _choosable(base).items()]
    return "Every field of the experiment can be overridden. Parts are chosen by name: " + ", ".join(lines)


def _registry() -> ConstructorRegistry:
    registry = ConstructorRegistry()
    registry.struct_rule(_part_rule)
    registry.primitive_rule(_family_rule)
    return registry


def _part_rule(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Options of Linen modules and config dataclasses, without the fields that are not a user's to set."""
    part = info.default
    if not isinstance(part, nn.Module) and not (is_part(part) and type(part).__module__.startswith("dgmzoo.")):
        return None
    if isinstance(part, Train | Bench | Compare):
        return None
    hints = type_hints(type(part))
    specs, texts = [], {}
    for parent in reversed(type(part).__mro__[:-1]):  # the fields of a parent are described there
        if dataclasses.is_dataclass(parent) and parent.__module__.partition(".")[0] != "flax":
            texts |= {param.arg_name: param.description for param in docstring_parser.parse_from_object(parent).params}
    for name in fields(part):
        default = getattr(part, name)
        is_function = callable(default) and not isinstance(default, type) and not is_part(default)
        if isinstance(default, Mapping) or is_function:
            continue  # neither has a spelling on the command line
        specs.append(
            StructFieldSpec(name=name, type=_without_functions(hints[name]), default=default, helptext=texts.get(name))
        )
    return StructConstructorSpec(instantiate=lambda **values: _Values(values), fields=tuple(specs))


def _without_functions(hint: Any) -> Any:
    """The members of a union that have a spelling on the command line."""
    if not isinstance(hint, types.UnionType) and typing.get_origin(hint) is not typing.Union:
        return hint
    spelled = [member for member in typing.get_args(hint) if typing.get_origin(member) is not Callable]
    return functools.reduce(operator.or_, spelled)


def _family_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Options of distribution families, by the name of the class."""
    if info.type != type[dist.Distribution]:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="FAMILY",
        instance_from_str=lambda words: family(words[0]),
        is_instance=lambda value: isinstance(value, type) and issubclass(value, dist.Distribution),
        str_from_instance=lambda value: [value.__name__],
    )
