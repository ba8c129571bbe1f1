"""The times that pages look back over."""

from __future__ import annotations

from datetime import datetime, timedelta


def weeks_before(now: datetime, weeks: int) -> tuple[str, str]:
    """From so many weeks ago until after today, as days: the end is exclusive."""
    return (now - timedelta(weeks=weeks)).date().isoformat(), (now + timedelta(days=1)).date().isoformat()
