"""Few-shot learning: distributions of small learning problems, and networks for them."""

from meta_train.few_shot.base import Batch as Batch
from meta_train.few_shot.base import Episode as Episode
from meta_train.few_shot.base import Episodes as Episodes
from meta_train.few_shot.base import Network as Network
from meta_train.few_shot.evaluate import EvaluatedFn as EvaluatedFn
from meta_train.few_shot.evaluate import Evaluation as Evaluation
from meta_train.few_shot.evaluate import Mean as Mean
from meta_train.few_shot.evaluate import evaluate as evaluate
from meta_train.few_shot.nearest_neighbor import nearest_neighbor as nearest_neighbor
from meta_train.few_shot.networks import conv4 as conv4
from meta_train.few_shot.networks import perceptron as perceptron
from meta_train.few_shot.pictures import ClassPool as ClassPool
from meta_train.few_shot.pictures import episodes as episodes
from meta_train.few_shot.sinusoids import sinusoids as sinusoids

__all__ = [
    "Batch",
    "ClassPool",
    "Episode",
    "Episodes",
    "EvaluatedFn",
    "Evaluation",
    "Mean",
    "Network",
    "conv4",
    "episodes",
    "evaluate",
    "nearest_neighbor",
    "perceptron",
    "sinusoids",
]
