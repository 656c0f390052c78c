"""Few-shot learning: distributions of small learning problems, and networks for them."""

from meta_train.few_shot.base import Batch as Batch
from meta_train.few_shot.base import Episode as Episode
from meta_train.few_shot.base import Episodes as Episodes
from meta_train.few_shot.base import Network as Network

__all__ = ["Batch", "Episode", "Episodes", "Network"]
