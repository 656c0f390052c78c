"""Durations as people read them."""


def clock(seconds: float) -> str:
    """Returns a duration as minutes and seconds, with hours and days where there are any.

    Example:
      >>> clock(42.7), clock(3_723), clock(190_000)
      ('0:42', '1:02:03', '2 d 4:46:40')
    """
    minutes, rest = divmod(int(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours}:{minutes:02}:{rest:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ago(seconds: float) -> str:
    """Returns how long ago something was, in the largest unit that fits.

    Example:
      >>> ago(4.2), ago(150), ago(7_300), ago(200_000)
      ('4 s ago', '2 min ago', '2 h ago', '2 d ago')
    """
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(max(seconds, 0.0))} s ago"
