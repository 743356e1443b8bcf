"""Pictures by the kind of data: what is drawn, in which units, how large (F43, F50)."""

import io
from types import SimpleNamespace

import jax
import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

import dgmzoo
from dgmzoo.data import Data, from_arrays, load_dataset
from dgmzoo.data.description import described_dataset, description_of
from dgmzoo.model.functional import functional
from dgmzoo.report.pictures import of_run
from dgmzoo.report.pictures.base import observed
from dgmzoo.report.pictures.draw import picture, renderer
from dgmzoo.report.pictures.images import encode_png, palette, tile_images

random = np.random.default_rng(0)
GREY = from_arrays(random.integers(0, 256, (40, 6, 5)).astype(np.uint8))
COLOUR = from_arrays(random.integers(0, 256, (40, 6, 5, 3)).astype(np.uint8))
CLASSES = from_arrays(random.integers(0, 4, (40, 6, 5)).astype(np.uint8), encoding="classes")
TABLE = from_arrays(random.normal(size=(40, 3)) * [1, 1000, 0.01] + [0, 5000, 0])
POINTS = from_arrays(random.normal(size=(40, 2)) * [3, 500])
KINDS = {
    "grey": (GREY, "Images"),
    "colour": (COLOUR, "Images"),
    "channels": (from_arrays(random.random((40, 6, 5, 4))), "Images"),
    "real images": (from_arrays(random.normal(size=(40, 6, 5))), "Images"),
    "classes": (CLASSES, "Images"),
    "points": (POINTS, "Points"),
    "table": (TABLE, "Tables"),
    "class columns": (from_arrays(random.integers(0, 4, (40, 2)), encoding="classes"), "Tables"),
    "wide table": (from_arrays(random.normal(size=(40, 30_000)).astype(np.float32)), "Tables"),
    "bits": (from_arrays(random.integers(0, 2, (40, 9))), "Bits"),
    "wide bits": (from_arrays(random.integers(0, 2, (40, 30_000))), "Bits"),
    "masked": (from_arrays(random.normal(size=(40, 30)), missing=0.3), "Tables"),
}


def pixels(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png))


def drawn(config: Data, x: np.ndarray, **options) -> Figure:
    figure = Figure(figsize=(8, 5))
    renderer(load_dataset(config)).draw(figure, x, **options)
    return figure


@pytest.mark.parametrize("name", KINDS)
def test_f43_every_kind_has_pictures_of_a_bounded_size(name):
    config, kind = KINDS[name]
    data = load_dataset(config)
    own = renderer(data)
    rows = data.evaluation_rows("test")
    assert type(own).__name__ == kind
    for shown in (picture(data), own.picture(rows["x"], "", beside=True), own.pairs(observed(rows), rows["x"], "")):
        image = pixels(shown.png)
        assert max(image.shape[:2]) <= 1700 and image[..., :3].std() > 0.02, "an empty or endless picture"


def test_f43_classes_have_colours_and_are_not_white():
    data = load_dataset(CLASSES)
    shown = renderer(data).intensities(np.array([[[0, 1, 2, 3, 3]] * 6]))
    np.testing.assert_allclose(shown[0, 0], palette()[[0, 1, 2, 3, 3]])
    levels = renderer(load_dataset(Data("digits", encoding="classes")))
    assert "most probable class" in levels.caption(True) and levels.caption(False) == "Samples"
    assert levels.intensities(np.full((1, 8, 8, 1), 8)).mean() == 0.5


def test_images_are_grey_levels_over_their_maximum_and_hidden_ones_are_grey():
    data = load_dataset(GREY)
    rows = {"x": np.full((1, 6, 5, 1), 0.25, np.float32), "mask": np.array([[True, False, True, True, True, True]])}
    shown = renderer(data).intensities(observed(rows))
    assert set(np.unique(shown)) == {0.25, 0.5}
    enlarged = pixels(picture(data, num=1).png)[:, :, 0]  # 7 x 6 with the lines, 80 screen pixels each
    np.testing.assert_allclose(enlarged[::80, ::80][:6, :5], data.splits["train"]["x"][0, ..., 0] / 255, atol=0.005)


def test_digits_are_shown_without_the_binarization_of_training():
    data = load_dataset(Data("digits"))
    assert len(np.unique(pixels(picture(data, num=16).png)[..., 0])) > 10


def test_tables_are_drawn_in_their_units_beside_the_data():
    data = load_dataset(TABLE)
    figure = drawn(TABLE, data.evaluation_rows("test")["x"], beside=True)
    limits = [figure.axes[i].get_xlim() for i in (0, 4, 8)]  # histograms on the diagonal of a scatter matrix
    assert limits[1][0] > 1000 and limits[1][1] < 9000 and limits[2][1] < 0.2
    assert [axes.get_xlabel() for axes in figure.axes[6:9]] == ["column 0", "column 1", "column 2"]


def test_columns_have_the_names_of_the_file(tmp_path):
    (tmp_path / "t.csv").write_text("height,width,label\n" + "\n".join(f"{i}.5,{i},{i % 2}" for i in range(30)))
    data = load_dataset(Data(str(tmp_path / "t.csv")))
    assert data.entry.columns == ("height", "width") and renderer(data).names == ["height", "width"]


def test_f43_a_wide_table_shows_the_moments_of_all_columns():
    config = KINDS["wide table"][0]
    figure = drawn(config, load_dataset(config).evaluation_rows("test")["x"], beside=True)
    assert [axes.get_title() for axes in figure.axes][-2:] == ["means of all 30,000", "deviations of all 30,000"]
    assert len(figure.axes) <= 20


def test_f43_points_are_drawn_beside_the_data_with_the_density_of_the_model():
    data = load_dataset(POINTS)
    module = dgmzoo.MADE(hidden=(4,), likelihood=dgmzoo.Normal(), shape=(2,))
    model = functional(module)
    rows = data.evaluation_rows("test", 2)
    variables = model.init(jax.random.key(0), {"x": rows["x"]})
    run = SimpleNamespace(
        model=model,
        variables=variables,
        dataset=data,
        experiment=SimpleNamespace(evaluation=dgmzoo.Evaluation(num_samples=1)),
    )
    density = of_run.density_of(run)
    sides = np.linspace(-30, 30, 200), np.linspace(-5000, 5000, 200)
    grid = np.stack(np.meshgrid(*sides), -1).reshape(-1, 2)
    area = (sides[0][1] - sides[0][0]) * (sides[1][1] - sides[1][0])
    assert density(grid).sum() * area == pytest.approx(1, abs=0.02), "a density in the units of the data"
    figure = drawn(POINTS, rows["x"], beside=True, density=density)
    assert [axes.get_title() for axes in figure.axes] == ["test rows", "samples", "density of the model"]


@pytest.mark.parametrize("config", [GREY, CLASSES, TABLE, POINTS], ids=["grey", "classes", "table", "points"])
def test_f27_samples_of_a_moved_run_are_drawn_without_the_data(config):
    def load():
        raise FileNotFoundError("moved")

    data = load_dataset(config)
    moved = renderer(described_dataset(description_of(data), load))
    assert type(moved) is type(renderer(data)) and moved.test_x is None
    x = np.asarray(data.evaluation_rows("test")["x"])
    assert pixels(moved.picture(x, "", beside=True).png)[..., :3].std() > 0.02


def test_texts_and_counts_are_words():
    words, entry = ("the", "cat", "<eos>"), SimpleNamespace(kind="tokens", display_shape=(), maximum=None)
    data = SimpleNamespace(
        entry=entry,
        shape=(4,),
        vocabulary=words,
        end=2,
        encoding=None,
        standardization=None,
        evaluation_rows=lambda split, num: {"x": np.array([[1, 1, 2, 0]])},
    )
    figure = Figure()
    renderer(data).draw(figure, np.array([[0, 1, 2, 0], [7, 0, 0, 0]]), beside=True)
    assert figure.texts[0].get_text().splitlines() == ["the cat", "7 the the the", "", "test rows:", "cat cat"]
    entry.kind = "counts"
    figure = Figure()
    renderer(data).draw(figure, np.array([[0.0, 1, 2]]))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["<eos>", "cat", "the"]


def test_tiled_images_are_unchanged():
    images = random.random((7, 3, 4, 1))
    sheet = tile_images(images, columns=3)
    assert sheet.shape == (3 * 4, 3 * 5, 1)
    assert tile_images(np.zeros((64, 23, 17, 1))).shape == (8 * 24, 8 * 18, 1), "no row of a single image"
    np.testing.assert_array_equal(sheet[4:7, 5:9], images[4])


def test_f50_large_sheets_are_shrunk_by_means():
    image = pixels(encode_png(np.tile(np.array([[[0.0]], [[1.0]]]), (2000, 3000, 1))))
    assert max(image.shape) <= 1600 and abs(image[..., 0].mean() - 0.5) < 0.01


def test_f50_picture_path_may_name_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = dgmzoo.picture(load_dataset(Data("toy_moons"))).save("~/moons.png")
    assert path == tmp_path / "moons.png" and path.is_file()


def test_a_picture_shows_itself_and_refuses_an_unknown_split():
    data = load_dataset(GREY)
    shown = dgmzoo.picture(data, data.evaluation_rows("test")["x"])
    assert shown._repr_png_() == shown.png and "png" not in repr(shown)
    with pytest.raises(ValueError, match="one of train, valid, test, got 'dev'"):
        dgmzoo.picture(data, split="dev")
