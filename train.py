"""Train a discrete audio autoencoder: `python train.py quantizer=fourier data.root=/path/to/audio`."""

from discrete_ae.cli.train import main

if __name__ == "__main__":
    main()
