"""`code_of`: the code of a user that an experiment needs, as a run keeps it; `load_experiment_of`: the experiment of a run.

A run directory and an exported file keep the user's experiment file and plugins with all files that these need, under
`source/`. The zoo's own experiments are known by their names.
"""

import sys
from collections.abc import Callable
from typing import Any

from dgmzoo.config import plugins
from dgmzoo.config.experiment import Experiment, load_experiment
from dgmzoo.config.overrides import override, source
from dgmzoo.config.user_code import UserCode, trusted_path
from dgmzoo.model.module_tree import field_values, parts

SOURCE = "source"
EXPERIMENT = "experiment"
_PLUGIN = "plugin-"


def code_of(experiment: Experiment) -> tuple[dict[str, UserCode], dict[str, bytes]]:
    """The experiment file ("experiment") and the plugins ("plugin-0") of an experiment, and the files to keep of them."""
    name, _ = source(experiment)
    paths = {EXPERIMENT: name} if name and name.endswith(".py") else {}
    paths |= {f"{_PLUGIN}{i}": path for i, path in enumerate(sorted(_plugins_of(experiment)))}
    digests = plugins.loaded_files() | {name: experiment.origin and experiment.origin.file_sha256}
    codes, files = {}, {}
    for role, path in paths.items():
        codes[role], contents = UserCode.of(path, digests[path])
        files |= {f"{SOURCE}/{role}/{file}": content for file, content in contents.items()}
    return codes, files


def load_experiment_of(config: dict[str, Any], read: Callable[[str], bytes], where: str, trust: bool) -> Experiment:
    """The experiment of a run's configuration, by name or from the code that the run keeps, with its overrides.

    Args:
      read: the content of a file of the run, by its name, such as `source/experiment/mine.py`.
      where: the run, for messages.
      trust: run the run's code although this person has not trained or trusted it before.

    Raises:
      ValueError: the experiment was built in Python, or its code is not trusted, changed or missing.
    """
    name = config["experiment"]
    if name is None:
        raise ValueError(
            f"expected a named experiment in {where}, got one built in Python; pass it: dgmzoo.load(run, experiment=...), "
            "or name a file that defines it: --experiment FILE"
        )
    codes = {role: UserCode.from_json(code, where) for role, code in sorted(config["code"].items())}
    if name.endswith(".py") and EXPERIMENT not in codes:
        raise ValueError(f"expected the code of {name} in {where}, got none; name your own file by --experiment")
    paths = {
        role: trusted_path(code, lambda file, role=role: read(f"{SOURCE}/{role}/{file}"), where, trust)
        for role, code in codes.items()
    }
    for role, path in paths.items():
        if role != EXPERIMENT and codes[role].sha256 not in plugins.loaded_files().values():
            plugins.load_file(path)
    loaded = load_experiment(str(paths.get(EXPERIMENT, name)))
    if EXPERIMENT in codes and loaded.origin.file_sha256 != codes[EXPERIMENT].sha256:
        raise ValueError(
            f"expected {name} to need the files that {where} keeps, got others; an experiment file that loads another by "
            "an absolute path finds it at its first place alone: name your own file by --experiment"
        )
    return override(loaded, config["overrides"])


def _plugins_of(experiment: Experiment) -> set[str]:
    """The plugin files that define a class of the experiment."""
    classes = {type(experiment.objective)}
    for _, part in parts(experiment.model):
        classes |= {type(part), *(value for _, value in field_values(part) if isinstance(value, type))}
    return plugins.loaded_files().keys() & {
        getattr(sys.modules.get(cls.__module__), "__file__", None) for cls in classes
    }
