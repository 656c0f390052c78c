"""Data sets as arrays in memory, from scikit-learn, from files in a folder, or from tensorflow-datasets."""

from meta_train.data.data_folder import DATA_DIR_VARIABLE as DATA_DIR_VARIABLE
from meta_train.data.dataset import Dataset as Dataset
from meta_train.data.dataset import Text as Text
from meta_train.data.dataset import available as available
from meta_train.data.dataset import embedded as embedded
from meta_train.data.dataset import load as load
from meta_train.data.dataset import num_classes as num_classes
from meta_train.data.digit_classes import digit_classes as digit_classes
from meta_train.data.omniglot import omniglot as omniglot
from meta_train.data.picture_classes import ClassSplit as ClassSplit
from meta_train.data.picture_classes import PictureClasses as PictureClasses
from meta_train.data.picture_classes import by_class as by_class

__all__ = [
    "DATA_DIR_VARIABLE",
    "ClassSplit",
    "Dataset",
    "PictureClasses",
    "Text",
    "available",
    "by_class",
    "digit_classes",
    "embedded",
    "load",
    "num_classes",
    "omniglot",
]
