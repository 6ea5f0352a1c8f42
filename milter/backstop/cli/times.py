"""Times as people give and read them: `2d`, `12h`, `2026-11-21T12:00Z`."""

from datetime import UTC, datetime

from backstop.settings import DAY, parse_duration

_UNITS = ((DAY, "d"), (3600, "h"), (60, "m"), (1, "s"))


def parse_moment(text: str) -> float:
    """Seconds since 1970 of a date or a time in UTC. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError('a time such as "2026-11-21T12:00Z" is wanted') from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def parse_span(text: str, now: float) -> int:
    """Whole seconds from now on: of a duration, or until a time that is to come. Raises ValueError."""
    try:
        seconds = parse_duration(text.strip())
    except ValueError:
        try:
            seconds = round(parse_moment(text) - now)
        except ValueError:
            raise ValueError(
                f'"{text}" is no time; wanted is "12h" or "2d", or an end such as "2026-11-21T12:00Z"'
            ) from None
    if seconds <= 0:
        raise ValueError(f'"{text}" is over already')
    return seconds


def moment_text(moment: float) -> str:
    """A time in UTC, to the second."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def date_text(day: int) -> str:
    """The date of a day number (days since 1970)."""
    return datetime.fromtimestamp(day * DAY, UTC).strftime("%Y-%m-%d")


def left_text(seconds: float) -> str:
    """How long something still lasts, in its two largest units: `1d 23h`."""
    rest = max(round(seconds), 0)
    parts: list[str] = []
    for length, letter in _UNITS:
        count, rest = divmod(rest, length)
        if count or (parts and len(parts) < 2):
            parts.append(f"{count}{letter}")
        if len(parts) == 2:
            break
    return " ".join(parts) or "0s"
