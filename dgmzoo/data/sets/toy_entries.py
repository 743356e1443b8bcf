"""`TOYS`: the entries of the toy data sets, which are sampled by the functions in `toys.py`."""

from dgmzoo.data.entry import Entry


def _toy(name: str, title: str) -> Entry:
    """The entry of a toy set of points in the plane."""
    return Entry(
        name=name,
        title=title,
        paper="",
        licence="sampled by dgmzoo",
        shape=(2,),
        splits={"train": 10000, "valid": 1000, "test": 10000},
        use="Pictures of a density in two dimensions. Sampled by data.seed.",
        decoder="sets.toys.decode",
        kind="points",
        dtype="float32",
    )


TOYS = (
    _toy("toy_gaussians", "Eight normals on a circle"),
    _toy("toy_moons", "Two half circles that interlock"),
    _toy("toy_rings", "Two circles"),
    _toy("toy_spirals", "Two spirals"),
    _toy("toy_checkerboard", "Squares of a 4x4 board"),
    _toy("toy_pinwheel", "Five bent arms"),
    Entry(
        name="toy_sparse_linear",
        title="A linear regression on 200 inputs, 8 of them relevant",
        paper="",
        licence="sampled by dgmzoo",
        shape=(1,),
        splits={"train": 300, "test": 1000},
        use="Selection of the relevant inputs. x is the response, context [200] the inputs; the signal's variance is 1, the "
        "noise's 1/4. Sampled by data.seed.",
        decoder="sets.toys.decode",
        kind="points",
        dtype="float32",
    ),
)
