"""How many outer steps `meta-train few-shot` makes unless --steps says otherwise."""

from meta_train.cli.few_shot_data import DataKind

# Digits: with all poses of 6 held out of the classes to learn from, MAML was best on them after 500 of 4,000 steps.
# Omniglot and sinusoids: so many as take some minutes on two cores. Fewer where an outer step takes longer.
_USUAL = {DataKind.DIGITS: 500, DataKind.OMNIGLOT: 4000, DataKind.SINUSOID: 50_000}
_SHARES = {"imaml": 0.3, "warpgrad": 0.5, "adjoint": 0.02}
_FEWEST = 100


def default(method: str, kind: DataKind) -> int:
    """Outer steps of a method on such data.

    Example:
      >>> default("maml", DataKind.DIGITS), default("imaml", DataKind.DIGITS)
      (500, 150)
    """
    return max(_FEWEST, round(_USUAL[kind] * _SHARES.get(method, 1.0)))
