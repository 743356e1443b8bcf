"""Parameters of a variational layer by their role: layers with sockets keep them in q and p, joint layers in their heads."""


def posterior_head(tree):
    """The parameters of the linear head of the posterior."""
    return tree["q"]["head"] if "q" in tree else tree["posterior_head"]


def prior_parameters(tree):
    """The parameters of a prior without a layer above; empty where the prior is fixed."""
    return tree.get("p", {}).get("free", {}) if "q" in tree else tree.get("prior_parameters", {})


def layer_parameters(tree, head, prior):
    """The parameters of a layer like `tree`, with another posterior head and other prior parameters."""
    if "q" in tree:
        return {**tree, "q": {"head": head}, "p": {**tree.get("p", {}), "free": prior}}
    return {**tree, "posterior_head": head, "prior_parameters": prior}
