"""A density of your own table of real numbers, without blanks: `dgmzoo train ddnn/my_table_made --data.name FILE.csv`.

The density is exact: a product of normals, one for each column given the columns before it, whose means and scales come
from a MADE. The data are a .csv with a row an example (a first row of names and a column `label` are known), or a .npy or
.npz of real numbers [N, D]. A tenth each is held out by `data.seed`. Columns are standardised by the training rows for the
model; nats, samples and pictures are in the table's own units. Columns of 0 and 1 alone are binary: add
`--model.likelihood bernoulli`. Whole numbers from 0 alone are taken for counts and stay in their units: subtract their mean first. Tables with blanks need `vae/my_table_vae`.

The parameters of the best validation likelihood are kept, because few rows are soon overfitted. 4000 steps suit some
thousand rows; for many take more, `--training.steps 40000`.
"""

from dgmzoo import ELBO, MADE, Data, Evaluation, Experiment, Normal, Training

experiment = Experiment(
    model=MADE(hidden=(100, 100), likelihood=Normal()),
    data=Data("my_table"),
    objective=ELBO(),
    training=Training(steps=4000, batch_size=32, learning_rate=1e-3, validate_epochs=5),
    evaluation=Evaluation(num_samples=1),
)
