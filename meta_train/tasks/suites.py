"""The named tasks, and the six suites that they belong to.

Recipes are trained on "meta-train" and "broad", whose tasks draw model and data anew in each episode, chosen by
"validation" and reported on "test". Two suites are reported apart, and nothing is trained on them or chosen by them:
"full" has the tasks of "test" that use a part of CIFAR-10, with the whole of it, and "large" has models of 0.37 to 11
million parameters. No data set meets the same architecture in two suites. CIFAR-10, Tiny Shakespeare, wine, breast
cancer and three of the UCI tables are in none of "meta-train", "broad" and "validation".

A name stands for one data set, see `source`: `cifar-mlp` for all 50,000 training pictures of CIFAR-10, `cifar2k-mlp`
for 2,000 of them.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import haiku as hk
import jax

import learned_optim
from learned_optim import nearest
from meta_train import data
from meta_train.tasks.attention import layer_norm
from meta_train.tasks.autoencoder import autoencoder
from meta_train.tasks.base import Task
from meta_train.tasks.broad_linear import broad_linear
from meta_train.tasks.broad_perceptron import broad_perceptron
from meta_train.tasks.classical_function import ACKLEY
from meta_train.tasks.classical_function import LEVY
from meta_train.tasks.classical_function import ROSENBROCK
from meta_train.tasks.classical_function import STYBLINSKI_TANG
from meta_train.tasks.classical_function import classical_function
from meta_train.tasks.convnet import convnet
from meta_train.tasks.matrix_factorization import matrix_factorization
from meta_train.tasks.mlp import mlp
from meta_train.tasks.optimizer_training import optimizer_training
from meta_train.tasks.quadratic import ill_conditioned_quadratic
from meta_train.tasks.quadratic import quadratic
from meta_train.tasks.recurrent_language_model import recurrent_language_model
from meta_train.tasks.resnet import resnet
from meta_train.tasks.softmax_regression import softmax_regression
from meta_train.tasks.source import Source
from meta_train.tasks.tabular import tabular
from meta_train.tasks.transformer_language_model import transformer_language_model
from meta_train.tasks.vae import vae
from meta_train.tasks.variation import Variation
from meta_train.tasks.vision_transformer import vision_transformer


class Entry(NamedTuple):
    """A named task: how to build it, and where it belongs."""

    suite: str  # one of `SUITES`
    family: Callable[..., Task]  # (name, dataset if there is a source, **options) -> Task
    source: Source | None
    options: dict[str, Any]


def _train(family, source=None, **options):
    return Entry("meta-train", family, source, options)


def _broad(family, **options):
    return Entry("broad", family, None, options)


def _validation(family, source=None, **options):
    return Entry("validation", family, source, options)


def _test(family, source=None, **options):
    return Entry("test", family, source, options)


def _full(family, source=None, **options):
    return Entry("full", family, source, options)


def _large(family, source=None, **options):
    return Entry("large", family, source, options)


_DIGITS, _IRIS, _WINE, _CANCER = Source("digits"), Source("iris"), Source("wine"), Source("breast_cancer")
_DIABETES, _PHOTOS, _DOCS = Source("diabetes"), Source("photos"), Source("sklearn_docs")
_FASHION_8, _FASHION_14 = Source("fashion_mnist", 8), Source("fashion_mnist", 14)
_MNIST_8, _MNIST_14, _MNIST = Source("mnist", 8), Source("mnist", 14), Source("mnist")
_CIFAR_16 = Source("cifar10", 16)
_NAMES, _SHAKESPEARE = Source("names"), Source("tiny_shakespeare")

# What `get(…, sampled=True)` lets vary: scales, for tasks with data also the data, for those with labels also these.
_SCALES = Variation(init_scale=(0.5, 2.0), loss_scale=(1e-2, 1e2))
_EXAMPLES = _SCALES._replace(subset=(0.05, 1.0), batch=(0.1, 1.0))
_LABELS = _EXAMPLES._replace(label_noise=(0.0, 0.2))
_WITHOUT_LABELS = (autoencoder, vae, recurrent_language_model, transformer_language_model)

# The models of the tasks on pictures of CIFAR-10: height and width of the pictures, and the options.
_ON_CIFAR = {
    "mlp": (mlp, 8, {"hidden_sizes": (64, 64)}),
    "softmax": (softmax_regression, 8, {}),
    "conv": (convnet, 16, {"channels": (12, 16), "batch_size": 32}),
    "resnet": (resnet, 8, {"channels": 12, "batch_size": 32}),
    "vit": (vision_transformer, 16, {"patch_size": 4, "width": 24}),
    "autoencoder": (autoencoder, 8, {"hidden_sizes": (64, 24, 64)}),
    "vae": (vae, 8, {"latent_size": 12}),
}


def _on_cifar(entry, dataset):
    """Tasks cifar-… on all of CIFAR-10, or cifar2k-… on a part, with equal models."""
    first = dataset.removesuffix("10")
    return {
        f"{first}-{name}": entry(family, Source(dataset, size), **options)
        for name, (family, size, options) in _ON_CIFAR.items()
    }


TASKS = {
    # To train on.
    "digits-mlp": _train(mlp, _DIGITS),
    "digits-softmax": _train(softmax_regression, _DIGITS),
    "quadratic": _train(quadratic),
    "quadratic-ill-conditioned": _train(ill_conditioned_quadratic, noise=0.1),
    "levy": _train(classical_function, function=LEVY, size=6),
    "styblinski-tang": _train(classical_function, function=STYBLINSKI_TANG, size=8),
    "matrix-factorisation": _train(matrix_factorization),
    "adam-on-quadratics": _train(optimizer_training, optimizer=learned_optim.learned_adam(0.01), inner=quadratic()),
    "digits-mlp-narrow": _train(mlp, _DIGITS, hidden_sizes=(24, 24)),
    "digits-mlp-large": _train(mlp, _DIGITS, hidden_sizes=(256, 256), batch_size=64),
    "digits-mlp-tanh": _train(mlp, _DIGITS, hidden_sizes=(40, 20), activation=jax.nn.tanh, batch_size=32),
    "digits-mlp-sigmoid": _train(mlp, _DIGITS, hidden_sizes=(20,), activation=jax.nn.sigmoid),
    "mnist-mlp-sigmoid": _train(mlp, _MNIST, hidden_sizes=(20,), activation=jax.nn.sigmoid),
    "digits-mlp-layernorm": _train(mlp, _DIGITS, hidden_sizes=(32, 32), normalization=layer_norm),
    "digits-conv": _train(convnet, _DIGITS),
    "digits-resnet": _train(resnet, _DIGITS, num_blocks=1),
    "digits-vit": _train(vision_transformer, _DIGITS),
    "digits-autoencoder": _train(autoencoder, _DIGITS),
    "digits-vae": _train(vae, _DIGITS),
    "docs-gru": _train(recurrent_language_model, _DOCS),
    "docs-transformer": _train(transformer_language_model, _DOCS, width=24),
    "digits-resnet-small": _train(resnet, _DIGITS, num_blocks=1, channels=6, batch_size=16),
    "digits-vit-small": _train(vision_transformer, _DIGITS, width=8, batch_size=16),
    "docs-gru-small": _train(recurrent_language_model, _DOCS, hidden_size=16, length=12, batch_size=16),
    "docs-transformer-wide": _train(transformer_language_model, _DOCS, width=48, num_layers=2, length=16),
    "docs-transformer-small": _train(transformer_language_model, _DOCS, width=16, length=16, batch_size=8),
    "diabetes-mlp": _train(tabular, _DIABETES, hidden_sizes=(16,)),
    "fashion-mlp": _train(mlp, _FASHION_8),
    "fashion-mlp-deep": _train(mlp, _FASHION_8, hidden_sizes=(32, 32, 32), activation=jax.nn.gelu),
    "fashion-softmax": _train(softmax_regression, _FASHION_14),
    "fashion-conv": _train(convnet, _FASHION_14),
    "fashion-autoencoder": _train(autoencoder, _FASHION_8, hidden_sizes=(48, 12, 48)),
    "fashion-vae": _train(vae, _FASHION_8),
    "fashion-vit": _train(vision_transformer, _FASHION_8),
    "names-lstm": _train(recurrent_language_model, _NAMES, core=hk.LSTM, hidden_size=24),
    "names-transformer": _train(transformer_language_model, _NAMES),
    "airfoil-mlp": _train(tabular, Source("airfoil")),
    "bike-mlp": _train(tabular, Source("bike"), hidden_sizes=(32, 16), normalization=layer_norm),
    # To train on, a distribution of models and data each.
    "broad-linear": _broad(broad_linear),
    "broad-perceptron": _broad(broad_perceptron),
    "broad-perceptron-narrow": _broad(broad_perceptron, width=16),
    "broad-perceptron-small": _broad(broad_perceptron, width=32, batch_size=32),
    "broad-perceptron-wide": _broad(broad_perceptron, width=320, batch_size=64),
    # To choose by.
    "digits-wide": _validation(mlp, _DIGITS, hidden_sizes=(128,)),
    "iris-mlp": _validation(mlp, _IRIS, hidden_sizes=(16,), batch_size=32),
    "quadratic-noisy": _validation(ill_conditioned_quadratic, size=30, condition=(100.0, 100.0), noise=0.3),
    "ackley": _validation(classical_function, function=ACKLEY, size=5),
    "photos-conv": _validation(convnet, _PHOTOS),
    "photos-autoencoder": _validation(autoencoder, _PHOTOS, hidden_sizes=(64, 16, 64), activation=jax.nn.tanh),
    "docs-lstm": _validation(recurrent_language_model, _DOCS, core=hk.LSTM),
    "docs-transformer-deep": _validation(transformer_language_model, _DOCS, width=16, num_layers=2),
    "diabetes-deep": _validation(tabular, _DIABETES, hidden_sizes=(24, 24, 24)),
    "mnist-mlp-tanh": _validation(mlp, _MNIST_14, hidden_sizes=(32, 32), activation=jax.nn.tanh),
    "mnist-conv": _validation(convnet, _MNIST_14, pool=True),
    "mnist-vit": _validation(vision_transformer, _MNIST_8),
    "mnist-vae": _validation(vae, _MNIST_8, hidden_sizes=(48,)),
    "mnist-softmax": _validation(softmax_regression, _MNIST_8),
    "names-gru": _validation(recurrent_language_model, _NAMES),
    "energy-mlp": _validation(tabular, Source("energy")),
    "kin40k-mlp": _validation(tabular, Source("kin40k"), hidden_sizes=(48, 48)),
    # To report on.
    "digits-deep-tanh": _test(mlp, _DIGITS, hidden_sizes=(48, 48, 48), activation=jax.nn.tanh),
    "breast-cancer-mlp": _test(tabular, _CANCER, hidden_sizes=(64, 64)),
    "wine-softmax": _test(softmax_regression, _WINE, batch_size=32),
    "breast-cancer-softmax": _test(softmax_regression, _CANCER, batch_size=32),
    "rosenbrock": _test(classical_function, function=ROSENBROCK, size=4),
    "quadratic-large": _test(ill_conditioned_quadratic, size=50, condition=(1e3, 1e3)),
    "matrix-factorisation-noisy": _test(matrix_factorization, shape=(40, 60), rank=5, noise=0.1),
    "photos-vit": _test(vision_transformer, _PHOTOS, patch_size=4, width=24),
    "docs-rnn": _test(recurrent_language_model, _DOCS, core=hk.VanillaRNN, hidden_size=48),
    **_on_cifar(_test, "cifar2k"),
    "shakespeare-gru": _test(recurrent_language_model, _SHAKESPEARE, hidden_size=40),
    "shakespeare-lstm": _test(recurrent_language_model, _SHAKESPEARE, core=hk.LSTM),
    "shakespeare-transformer": _test(transformer_language_model, _SHAKESPEARE, num_layers=2),
    "protein-mlp": _test(tabular, Source("protein"), hidden_sizes=(40, 40)),
    "pol-mlp": _test(tabular, Source("pol"), hidden_sizes=(32,)),
    "yacht-mlp": _test(tabular, Source("yacht"), hidden_sizes=(24, 24), activation=jax.nn.tanh, batch_size=32),
    # To report on apart: the tasks on a part of CIFAR-10, with the whole of it.
    **_on_cifar(_full, "cifar10"),
    # To report on apart: larger models, those that take longest first.
    "mnist-mlp-2m": _large(mlp, _MNIST, hidden_sizes=(1024, 1024), batch_size=64),
    "shakespeare-transformer-800k": _large(
        transformer_language_model, _SHAKESPEARE, width=128, num_layers=4, num_heads=4, widening=4, batch_size=16
    ),
    "cifar-resnet-370k": _large(resnet, _CIFAR_16, channels=64, num_blocks=5, batch_size=16),
    "shakespeare-gru-500k": _large(recurrent_language_model, _SHAKESPEARE, hidden_size=400, batch_size=16),
    "shakespeare-transformer-11m": _large(
        transformer_language_model, _SHAKESPEARE, width=384, num_layers=6, num_heads=6, widening=4, batch_size=8
    ),
}
SUITES = ("meta-train", "validation", "test", "full", "large", "broad")
HUGE = ("shakespeare-transformer-11m",)
"""Tasks a single run of which takes hours: an evaluation of their suite leaves them out unless they are named."""


def get(name: str, *, sampled: bool = False, data_dir: str | None = None) -> Task:
    """Builds the task of that name.

    Args:
      name: a key of `TASKS`.
      sampled: whether each episode draws a variation of the task: scale of the initial parameters (½ to 2) and of the
        loss (1e-2 to 1e2), and where there are examples their number (a twentieth or more), the share of the minibatch
        that counts (a tenth or more), and the share of labels that are wrong (up to a fifth).
      data_dir: folder with data sets; see `data.load`.

    Raises:
      ValueError: if there is none; a `WrongSizeError` if its data set is at hand in another size.
      FileNotFoundError: if its data set is neither bundled, nor in the folder, nor with tensorflow-datasets.

    Example:
      >>> get("digits-mlp").data.train_x.shape
      (1437, 8, 8, 1)
    """
    entry = _entry(name)
    options = {**entry.options, "variation": _wide(entry)} if sampled else entry.options
    if entry.source is None:
        return entry.family(name, **options)
    return entry.family(name, entry.source.load(data_dir), **options)


def suite(name: str, *, embedded: bool = False) -> tuple[str, ...]:
    """Names of the tasks of a suite.

    Args:
      name: one of `SUITES`.
      embedded: whether to leave out tasks whose data do not come with the packages that `pip` installs.

    Raises:
      ValueError: for another name.

    Example:
      >>> "wine-softmax" in suite("test", embedded=True)
      True
    """
    if name not in SUITES:
        raise ValueError(f"there is no suite {name!r}. {nearest.hint(name, SUITES)}Choose from {', '.join(SUITES)}.")
    names = (task for task, entry in TASKS.items() if entry.suite == name)
    return tuple(task for task in names if not embedded or is_embedded(task))


def is_embedded(name: str) -> bool:
    """Whether a task needs no data but those that come with the packages that `pip` installs.

    Example:
      >>> is_embedded("cifar-conv")
      False
    """
    needed = source(name)
    return needed is None or needed.name in data.embedded()


def source(name: str) -> Source | None:
    """The data set of a task, or None if each episode draws its own data.

    Example:
      >>> source("cifar-conv").name
      'cifar10'
    """
    return _entry(name).source


def _wide(entry):
    if entry.source is None:
        return _SCALES
    return _EXAMPLES if entry.family in _WITHOUT_LABELS else _LABELS


def _entry(name):
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r}. {nearest.hint(name, TASKS)}Choose from {', '.join(TASKS)}.")
    return TASKS[name]
