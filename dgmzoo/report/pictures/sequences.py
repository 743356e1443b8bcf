"""`Words` and `Counts`: texts as tokens and as bags of words; `Rolls` and `Sound`: music and waveforms over time."""

from typing import Any

import numpy as np

from dgmzoo.report.pictures.base import DATA, MODEL, Renderer

_LINE = 96  # characters
_FREQUENT = 24  # words


class Words(Renderer):
    """Sequences of tokens as lines of text, up to the token that ends them."""

    num_samples = 12

    def draw(self, figure, x, beside=False, density=None):
        lines = [self.text(sequence) for sequence in x[:12]]
        if beside:
            lines += ["", "test rows:", *(self.text(sequence) for sequence in self.test_x[:6])]
        _write(figure, lines)

    def draw_pairs(self, figure, x, y):
        pairs = [(self.text(row), f"  {self.text(mean)}") for row, mean in zip(x[:7], y[:7], strict=True)]
        _write(figure, [line for pair in pairs for line in (*pair, "")])

    def caption(self, are_means):
        return "Samples, and test rows"

    def text(self, sequence: np.ndarray) -> str:
        """A sequence `[T]` as text, in a line."""
        tokens = np.asarray(sequence, np.float64).reshape(-1)
        tokens = tokens[np.isfinite(tokens)].astype(int)
        if self.dataset.end is not None and (ends := np.flatnonzero(tokens == self.dataset.end)).size:
            tokens = tokens[: ends[0]]
        words = self.dataset.vocabulary
        shown = [words[token] if words and 0 <= token < len(words) else str(token) for token in tokens[:_LINE]]
        line = " ".join(shown)
        return line if len(line) <= _LINE else f"{line[: _LINE - 4]} ..."


class Counts(Renderer):
    """Bags of words: the mean counts of the most frequent ones."""

    def draw(self, figure, x, beside=False, density=None):
        counts = self.columns(x)
        own = np.nanmean(counts, 0)
        data = np.nanmean(self.test_columns, 0) if beside else own
        frequent = np.argsort(-data, kind="stable")[:_FREQUENT]
        words = self.dataset.vocabulary or tuple(f"word {number}" for number in range(len(data)))
        axes, place = figure.add_subplot(), np.arange(len(frequent))
        axes.barh(place, data[frequent], color=DATA, label="test rows" if beside else None)
        if beside:
            axes.plot(own[frequent], place, "o", color=MODEL, label="samples")
            axes.legend(frameon=False)
        axes.set_yticks(place, [words[number] for number in frequent], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("mean count")

    def draw_pairs(self, figure, x, y):
        truth, mean = self.columns(x).ravel(), self.columns(y).ravel()
        axes = figure.add_subplot()
        axes.plot(truth[:20_000], mean[:20_000], ".", color=MODEL, markersize=3)
        axes.set(xlabel="count in a test row", ylabel="reconstruction")

    def caption(self, are_means):
        return "Mean counts of the most frequent words, of samples and of test rows"


class Rolls(Renderer):
    """Piano rolls: pitch over time."""

    shows_means = True
    num_samples = 6
    size = (8.0, 6.0)

    def draw(self, figure, x, beside=False, density=None):
        for i, roll in enumerate(x[:6]):
            self._one(figure.add_subplot(3, 2, i + 1), roll)
        figure.supxlabel("time step", fontsize=9)

    def draw_pairs(self, figure, x, y):
        for i, (above, below) in enumerate(zip(x[:3], y[:3], strict=True)):
            self._one(figure.add_subplot(3, 2, 2 * i + 1), above)
            self._one(figure.add_subplot(3, 2, 2 * i + 2), below)

    def caption(self, are_means):
        return f"Samples{' (probabilities of the notes)' if are_means else ''}, pitch over time"

    def _one(self, axes: Any, roll: np.ndarray) -> None:
        """A roll `[T, pitches]` without the steps after its end, which are NaN."""
        steps = np.isfinite(roll).all(1)
        axes.imshow(
            roll[steps].T, origin="lower", aspect="auto", cmap="gray_r", vmin=0, vmax=1, interpolation="nearest"
        )
        axes.tick_params(labelsize=7)


class Sound(Rolls):
    """Waveforms over time."""

    shows_means = False

    def caption(self, are_means):
        return "Samples, amplitude over time"

    def _one(self, axes: Any, roll: np.ndarray) -> None:
        axes.plot(np.asarray(roll, np.float64).reshape(-1), linewidth=0.5, color="0.25")
        axes.tick_params(labelsize=7)


def _write(figure: Any, lines: list[str]) -> None:
    figure.text(0.01, 0.99, "\n".join(lines), va="top", family="monospace", fontsize=8, parse_math=False)
