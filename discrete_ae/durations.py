"""Durations in words."""


def in_words(seconds: float) -> str:
    """Return a rounded duration in words: "45 s", "2 min 10 s", "3 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _both(whole // 60, "min", whole % 60, "s")
    minutes = round(seconds / 60)
    return _both(minutes // 60, "h", minutes % 60, "min")


def about(seconds: float) -> str:
    """Return an estimate in words: "less than a minute", "about 11 min", "about 3 h 5 min"."""
    minutes = round(seconds / 60)
    return f"about {in_words(60 * minutes)}" if minutes else "less than a minute"


def _both(large: int, unit: str, small: int, of_unit: str) -> str:
    return f"{large} {unit} {small} {of_unit}" if small else f"{large} {unit}"
