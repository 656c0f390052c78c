"""A number with the word that it counts."""


def counted(number: int, noun: str) -> str:
    """Returns the number and the noun, which gets an s unless the number is 1.

    Example:
      >>> counted(1, "seed"), counted(2000, "step")
      ('1 seed', '2,000 steps')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
