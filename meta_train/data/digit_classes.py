"""scikit-learn's digits as classes to learn from and held-out ones, with turned and mirrored digits as further classes.

A turned digit is a class of its own only if it is told apart from the other classes. So

- 0, 1 and 8, which look much the same upside down and mirrored, give 2 classes each: upright and on the side;
- 2 and 5, the same upside down, give 4: upright and on the side, mirrored or not;
- 3, the same if mirrored top to bottom, gives 4: the quarter turns;
- 4, 6 and 7 give all 8;
- 9 is a 6 turned by half. Its pictures, turned back, belong to the classes of 6.

Held out are all classes of 4 and 7. Classes that resemble each other if turned or mirrored are on one side: 6 and 9, 2
and 5, and 0, 1 and 8.
"""

import functools

import numpy as np

from meta_train.data.dataset import load
from meta_train.data.picture_classes import ClassSplit
from meta_train.data.picture_classes import by_class

HELD_OUT = (4, 7)
_UPRIGHT_AND_SIDE = ((0, False), (1, False))  # (quarter turns, whether mirrored left to right before)
_TURNS = tuple((turns, False) for turns in range(4))
_ALL = (*_TURNS, *((turns, True) for turns in range(4)))
_POSES = {
    **dict.fromkeys((0, 1, 8), _UPRIGHT_AND_SIDE),
    **dict.fromkeys((2, 5), (*_UPRIGHT_AND_SIDE, (0, True), (1, True))),
    3: _TURNS,
    **dict.fromkeys((4, 6, 7), _ALL),
}


def digit_classes() -> ClassSplit:
    """Loads scikit-learn's 1,797 digits of 8×8 pixels as 26 classes to learn from and 16 held-out ones.

    Returns:
      A `ClassSplit` of float32 pictures with at least 174 examples a class. Equal calls return the same arrays, which
      cannot be written to. A class's name has the digit, the quarter turns against the clock, and whether it was
      mirrored left to right before.

    Raises:
      ModuleNotFoundError: if scikit-learn is not installed.

    Example:
      >>> split = digit_classes()
      >>> len(split.train.names), len(split.test.names), split.test.names[5]
      (26, 16, '4 turned 1')
    """
    return _posed()


@functools.cache
def _posed():
    dataset = load("digits")
    pictures = np.concatenate([dataset.train_x, dataset.test_x])  # [1797, 8, 8, 1]
    labels = np.concatenate([dataset.train_y, dataset.test_y])
    of = {digit: pictures[labels == digit] for digit in range(10)}
    of[6] = np.concatenate([of[6], np.rot90(of[9], 2, axes=(1, 2))])
    parts = {True: ([], []), False: ([], [])}
    for digit, poses in _POSES.items():
        chosen, names = parts[digit in HELD_OUT]
        for turns, mirrored in poses:
            posed = of[digit][:, :, ::-1] if mirrored else of[digit]
            chosen.append(np.rot90(posed, turns, axes=(1, 2)))
            names += [f"{digit}{' mirrored' if mirrored else ''} turned {turns}"] * len(posed)
    test, train = (by_class(np.concatenate(chosen), names) for chosen, names in (parts[True], parts[False]))
    for classes in (train, test):
        classes.pictures.flags.writeable = classes.counts.flags.writeable = False
    return ClassSplit("digits", train, test)
