"""A VAE of your own table of real numbers, with or without blanks: `dgmzoo train vae/my_table_vae --data.name FILE.csv`.

The data are a .csv with a row an example (a first row of names and a column `label` are known; blank cells are hidden by a
mask), or a .npy or .npz of real numbers [N, D]. A tenth each is held out by `data.seed`. Columns are standardised by the
training rows for the model; nats, samples and pictures are in the table's own units. Columns of 0 and 1 alone are binary:
add `--model.likelihood bernoulli`. Whole numbers from 0 alone are taken for counts and stay in their units: subtract their mean first.

The parameters of the best validation bound are kept, because few rows are soon overfitted. 4000 steps suit some thousand
rows; for many take more, `--training.steps 40000`.
"""

from dgmzoo import ELBO, MLP, VAE, Data, Evaluation, Experiment, Normal, Training

experiment = Experiment(
    model=VAE(latent_dim=8, encoder=MLP((100, 100)), decoder=MLP((100, 100)), likelihood=Normal()),
    data=Data("my_table"),
    objective=ELBO(),
    training=Training(steps=4000, batch_size=32, learning_rate=1e-3, validate_epochs=5),
    evaluation=Evaluation(num_samples=500),
)
