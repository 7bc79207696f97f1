"""When work was handed in, how late that is, and what it costs."""

import argparse
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

STAMP = "timestamp.txt"  # nbgrader's own, beside the notebook
CANVAS = "Canvas's file name"  # says only whether it was late
WORKSHEET = "Moodle's worksheet"
FILE_DATE = "the file's date"
MOODLE_DATES = ("%A, %d %B %Y, %I:%M %p", "%A, %B %d, %Y, %I:%M %p")  # English, and English of the US


@dataclass(frozen=True)
class HandIn:
    """When something was handed in, and how we know."""

    time: datetime | None = None  # with its zone; None where only a mark says whether it was late
    clock: str = ""
    late: bool = False  # Canvas's mark

    def __str__(self) -> str:
        if self.time is None:
            return f"{'late' if self.late else 'on time'} ({self.clock})" if self.clock else ""
        return f"{self.time.astimezone():%Y-%m-%d %H:%M} ({self.clock})"


def handed_in(file: Path) -> HandIn:
    """By nbgrader's timestamp.txt beside the file, or else by the file's date."""
    from nbgrader.utils import parse_utc  # takes a second

    try:
        stamp = parse_utc((file.parent / STAMP).read_text(encoding="utf-8-sig").strip())
        return HandIn(stamp.replace(tzinfo=UTC), STAMP)
    except (OSError, ValueError, TypeError, OverflowError):
        return HandIn(datetime.fromtimestamp(file.stat().st_mtime, UTC), FILE_DATE)


def moodle_date(text: str) -> datetime | None:
    """A date of Moodle's grading worksheet, in the zone of this machine; None where it is none that we can read."""
    for form in MOODLE_DATES:
        try:
            return datetime.strptime(text.strip(), form).astimezone()
        except ValueError:
            continue
    return None


def due_time(text: str) -> datetime:
    """2026-12-01T18:00, in the zone of this machine, or 2026-12-01T18:00+01:00."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time like 2026-12-01T18:00") from None


def percentage(text: str) -> float:
    try:
        value = float(text.rstrip("%"))
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage between 0 and 100")
    return value


def hours_late(when: HandIn, due: datetime | None) -> float | None:
    """0 where it was in time or nothing was due, None where nobody knows how late it was."""
    if when.time is None:
        return None if when.late else 0.0
    return max(0.0, (when.time - due) / timedelta(hours=1)) if due else 0.0


def penalty(hours: float | None, per_day: float) -> float:
    """Percent of the points, for each day that has begun; none where nobody knows how late it was."""
    return min(100.0, per_day * math.ceil((hours or 0) / 24))
