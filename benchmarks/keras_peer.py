"""The peer of training: the same network, loss and batches in Keras with TensorFlow.

TensorFlow stays in an environment of its own, and this file needs nothing of geoae::

    python -m venv keras-venv
    keras-venv/bin/pip install tensorflow-cpu==2.21.0 keras==3.15.0
    keras-venv/bin/python benchmarks/keras_peer.py images.npy --steps 20

``python -m benchmarks.training CUBE --keras keras-venv/bin/python`` calls it beside geoae's own loop. The
network is written from the thesis' listing: strided convolutions of 8, 16 and 32 filters, two heads, a linear
dense layer, and the way back. The step is one compiled graph, Keras's fastest way: ``Model.fit`` adds its
metrics and its queue.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

import keras
import tensorflow as tf
from keras import layers

WARM = 10
"""Steps before the clock starts: the graph is compiled, memory is taken."""


def network(bands: int, latent: int, patch: int) -> tuple[Any, Any]:
    """Build the encoder and the decoder of thesis-a8."""
    images = keras.Input((patch, patch, bands))
    x = images
    for filters in (8, 16, 32):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="selu")(x)
    shape = x.shape[1:]
    x = layers.Flatten()(x)
    encoder = keras.Model(images, [layers.Dense(latent)(x), layers.Dense(latent)(x)])
    code = keras.Input((latent,))
    x = layers.Reshape(shape)(layers.Dense(int(np.prod(shape)))(code))
    for filters in (16, 8):
        x = layers.Conv2DTranspose(filters, 3, strides=2, padding="same", activation="selu")(x)
    x = layers.Conv2DTranspose(bands, 3, strides=2, padding="same", activation="sigmoid")(x)
    return encoder, keras.Model(code, x)


def make_step(encoder: Any, decoder: Any, rate: float, numbers: int, *, jit: bool) -> Callable[[Any], Any]:
    """Return a step of training: the mean absolute error and the calibrated divergence, Adam."""
    weights = [*encoder.trainable_variables, *decoder.trainable_variables]
    optimiser = keras.optimizers.Adam(rate, epsilon=1e-7)
    optimiser.build(weights)

    @tf.function(jit_compile=jit)
    def step(images: Any) -> Any:
        with tf.GradientTape() as tape:
            mean, log_var = encoder(images, training=True)
            z = mean + tf.random.normal(tf.shape(mean)) * tf.exp(0.5 * log_var)
            error = tf.reduce_mean(tf.abs(decoder(z, training=True) - images))
            nats = 0.5 * (tf.square(mean) + tf.exp(log_var) - 1.0 - log_var)
            divergence = tf.reduce_mean(tf.reduce_sum(nats, axis=1))
            loss = error + tf.stop_gradient(error) * divergence / numbers
        optimiser.apply(tape.gradient(loss, weights), weights)
        return tf.stack([loss, error])

    return step


def main() -> None:
    """Train, and print images a second and the losses as a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", help="(n, y, x, band) float32 of 0..1, .npy")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--latent-dim", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--jit", action="store_true", help="compile the step with XLA")
    parser.add_argument("--turns", action="store_true", help="make the steps at every line that is read")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    keras.utils.set_random_seed(arguments.seed)
    images = np.load(arguments.images)
    numbers = int(np.prod(images.shape[1:]))
    encoder, decoder = network(images.shape[3], arguments.latent_dim, images.shape[1])
    step = make_step(encoder, decoder, arguments.rate, numbers, jit=arguments.jit)
    data, rng = tf.constant(images), np.random.default_rng(arguments.seed)
    order, curve = np.empty(0, np.int64), []
    number, begun, used = -WARM, 0.0, 0.0
    while arguments.turns or number < arguments.steps:
        if number >= 0 and number % arguments.steps == 0:
            if arguments.turns and not _turn(number, arguments.steps, begun, used):
                return
            begun, used = time.perf_counter(), time.process_time()
        if len(order) < arguments.batch:
            order = rng.permutation(len(images))
        rows, order = order[: arguments.batch], order[arguments.batch :]
        curve.append(step(tf.gather(data, rows)).numpy().tolist())
        number += 1
    total = time.perf_counter() - begun
    print(
        json.dumps({
            "seconds": total / arguments.steps,
            "patches_per_second": arguments.batch * arguments.steps / total,
            "parameters": encoder.count_params() + decoder.count_params(),
            "loss": [loss for loss, _ in curve],
            "mae": [error for _, error in curve],
        })
    )  # fmt: skip


def _turn(number: int, steps: int, begun: float, used: float) -> bool:
    """Say what the steps of a turn took, and wait for the next; see `benchmarks.turns`."""
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    print(json.dumps({"seconds": seconds / steps, "cpu": cpu / steps} if number else {}), flush=True)
    return bool(sys.stdin.readline())


if __name__ == "__main__":
    main()
