"""A VAE of your own images, grey or colour: `dgmzoo train vae/my_images_vae --data.name FOLDER`.

The data are a folder of images of one size (png, jpg and others; folders in it are classes, or train, valid and test), or
a .npy or .npz of whole numbers from 0 to 255, [N, H, W] or [N, H, W, C]. A tenth each is held out by `data.seed`. The
likelihood gives probabilities of the 256 levels, in nats and bits per dimension. For binary images (0 and 1) add
`--model.likelihood bernoulli`; for real numbers `--model.likelihood normal`.

The parameters of the best validation bound are kept, because few images are soon overfitted. 2000 steps suit some hundreds
of images; for many take more, `--training.steps 20000`. The networks suit images of up to about 64x64 pixels; larger ones
train slowly: reduce them first.
"""

from dgmzoo import ELBO, MLP, VAE, Data, DiscretizedLogistic, Evaluation, Experiment, Training

experiment = Experiment(
    model=VAE(
        latent_dim=32, encoder=MLP((300, 300)), decoder=MLP((300, 300)), likelihood=DiscretizedLogistic(levels=256)
    ),
    data=Data("my_images"),
    objective=ELBO(),
    training=Training(steps=2000, batch_size=16, learning_rate=1e-3, validate_epochs=5),
    evaluation=Evaluation(num_samples=100),
)
