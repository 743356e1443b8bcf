"""The compatibility table in tests: needs by name, refusals of layers, and corrections of entries traced on toy rows."""

import jax

from dgmzoo.config.layer_check import compatible
from dgmzoo.model.compatibility import Needs, judge
from dgmzoo.model.contract import Query
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.objectives.score_function import NVIL
from tests.support.toy_rows import BITS

NEEDS = {
    "closed": Needs(),
    "sampled": Needs().at_samples(),
    "importance": IWAE.needs,
    "doubly": DReG.needs,
    "score": NVIL.needs,
}


def refusal(layer, needs: str) -> str | None:
    """The message of a refusal of a layer, without its alternative; None if its gradient is exact."""
    answer = judge(layer.facts(), NEEDS[needs])
    return answer.message if answer.kind == "refused" else None


def corrected(module, objective, batch=BITS):
    """The entry with layers for which the objective's gradients are right, and the descriptions of replacements."""

    def trace(model):
        variables = jax.eval_shape(model.init, jax.random.key(0), batch)
        query = Query(objective.num_samples, train=True)
        jax.eval_shape(lambda v: model.evidence(v, batch, jax.random.key(0), query), variables)

    return compatible(module.clone(shape=batch["x"].shape[1:]), objective, trace)
