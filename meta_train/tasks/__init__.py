"""Tasks to train inside: one family a file, named instances in `suites.py`, augmentations in `augment.py`."""

from typing import TYPE_CHECKING

from meta_train.host.renamed import renamed as _renamed
from meta_train.tasks import augment as augment
from meta_train.tasks.autoencoder import autoencoder as autoencoder
from meta_train.tasks.base import EvaluateFn as EvaluateFn
from meta_train.tasks.base import LossScaleFn as LossScaleFn
from meta_train.tasks.base import NormalizeFn as NormalizeFn
from meta_train.tasks.base import SampleFn as SampleFn
from meta_train.tasks.base import Task as Task
from meta_train.tasks.base import TaskInitFn as TaskInitFn
from meta_train.tasks.base import TaskLossFn as TaskLossFn
from meta_train.tasks.base import log_normalizer as log_normalizer
from meta_train.tasks.base import normalized_loss as normalized_loss
from meta_train.tasks.base import power_normalizer as power_normalizer
from meta_train.tasks.broad_linear import broad_linear as broad_linear
from meta_train.tasks.broad_perceptron import broad_perceptron as broad_perceptron
from meta_train.tasks.broad_pool import pool as pool
from meta_train.tasks.classical_function import classical_function as classical_function
from meta_train.tasks.convnet import convnet as convnet
from meta_train.tasks.language_model import language_model as language_model
from meta_train.tasks.matrix_factorization import matrix_factorization as matrix_factorization
from meta_train.tasks.mlp import mlp as mlp
from meta_train.tasks.optimizer_training import optimizer_training as optimizer_training
from meta_train.tasks.prediction import classification as classification
from meta_train.tasks.prediction import regression as regression
from meta_train.tasks.quadratic import ill_conditioned_quadratic as ill_conditioned_quadratic
from meta_train.tasks.quadratic import quadratic as quadratic
from meta_train.tasks.recurrent_language_model import recurrent_language_model as recurrent_language_model
from meta_train.tasks.resnet import resnet as resnet
from meta_train.tasks.softmax_regression import softmax_regression as softmax_regression
from meta_train.tasks.suites import HUGE as HUGE
from meta_train.tasks.suites import SUITES as SUITES
from meta_train.tasks.suites import TASKS as TASKS
from meta_train.tasks.suites import get as get
from meta_train.tasks.suites import is_embedded as is_embedded
from meta_train.tasks.suites import suite as suite
from meta_train.tasks.tabular import tabular as tabular
from meta_train.tasks.transformer_language_model import transformer_language_model as transformer_language_model
from meta_train.tasks.user_file import from_file as from_file
from meta_train.tasks.user_model import from_functions as from_functions
from meta_train.tasks.vae import vae as vae
from meta_train.tasks.variation import Variation as Variation
from meta_train.tasks.vision_transformer import vision_transformer as vision_transformer

__all__ = [
    "HUGE",
    "SUITES",
    "TASKS",
    "EvaluateFn",
    "LossScaleFn",
    "NormalizeFn",
    "SampleFn",
    "Task",
    "TaskInitFn",
    "TaskLossFn",
    "Variation",
    "augment",
    "autoencoder",
    "broad_linear",
    "broad_perceptron",
    "classical_function",
    "classification",
    "convnet",
    "from_file",
    "from_functions",
    "get",
    "ill_conditioned_quadratic",
    "is_embedded",
    "language_model",
    "log_normalizer",
    "matrix_factorization",
    "mlp",
    "normalized_loss",
    "optimizer_training",
    "pool",
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

if not TYPE_CHECKING:  # a checker reports the old names
    __getattr__ = _renamed(__name__, {"matrix_factorisation": "matrix_factorization"})
