"""Tasks to train inside: one family a file, named instances in `suites.py`, augmentations in `augment.py`."""

from meta_train.tasks import augment
from meta_train.tasks.autoencoder import autoencoder
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer
from meta_train.tasks.base import power_normalizer
from meta_train.tasks.classical_function import classical_function
from meta_train.tasks.convnet import convnet
from meta_train.tasks.language_model import language_model
from meta_train.tasks.matrix_factorisation import matrix_factorisation
from meta_train.tasks.mlp import mlp
from meta_train.tasks.optimizer_training import optimizer_training
from meta_train.tasks.prediction import classification
from meta_train.tasks.prediction import regression
from meta_train.tasks.quadratic import ill_conditioned_quadratic
from meta_train.tasks.quadratic import quadratic
from meta_train.tasks.recurrent_language_model import recurrent_language_model
from meta_train.tasks.resnet import resnet
from meta_train.tasks.softmax_regression import softmax_regression
from meta_train.tasks.suites import SUITES
from meta_train.tasks.suites import TASKS
from meta_train.tasks.suites import get
from meta_train.tasks.suites import is_embedded
from meta_train.tasks.suites import suite
from meta_train.tasks.tabular import tabular
from meta_train.tasks.transformer_language_model import transformer_language_model
from meta_train.tasks.vae import vae
from meta_train.tasks.variation import Variation
from meta_train.tasks.vision_transformer import vision_transformer

__all__ = [
    "SUITES",
    "TASKS",
    "Task",
    "Variation",
    "augment",
    "autoencoder",
    "classical_function",
    "classification",
    "convnet",
    "get",
    "ill_conditioned_quadratic",
    "is_embedded",
    "language_model",
    "log_normalizer",
    "matrix_factorisation",
    "mlp",
    "optimizer_training",
    "power_normalizer",
    "quadratic",
    "recurrent_language_model",
    "regression",
    "resnet",
    "softmax_regression",
    "suite",
    "tabular",
    "transformer_language_model",
    "vae",
    "vision_transformer",
]
