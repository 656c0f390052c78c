"""Data sets as arrays in memory, from scikit-learn, from files in a folder, or from tensorflow-datasets."""

from meta_train.data.data_folder import DATA_DIR_VARIABLE as DATA_DIR_VARIABLE
from meta_train.data.dataset import Dataset as Dataset
from meta_train.data.dataset import Text as Text
from meta_train.data.dataset import available as available
from meta_train.data.dataset import embedded as embedded
from meta_train.data.dataset import load as load
from meta_train.data.dataset import num_classes as num_classes

__all__ = [
    "DATA_DIR_VARIABLE",
    "Dataset",
    "Text",
    "available",
    "embedded",
    "load",
    "num_classes",
]
