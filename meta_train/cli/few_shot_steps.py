"""How many outer steps `meta-train few-shot` makes unless --steps says otherwise."""

from meta_train.cli.few_shot_data import DataKind

# Chosen by time: about three minutes on two cores for digits, ten for Omniglot, one for sinusoids.
_STEPS = {
    DataKind.DIGITS: {},
    DataKind.OMNIGLOT: {},
    DataKind.SINUSOID: {},
}
_OTHERS = {DataKind.DIGITS: 2000, DataKind.OMNIGLOT: 5000, DataKind.SINUSOID: 20000}


def default(method: str, kind: DataKind) -> int:
    """Outer steps of a method on such data.

    Example:
      >>> default("maml", DataKind.SINUSOID) > 1000
      True
    """
    return _STEPS[kind].get(method, _OTHERS[kind])
