"""What a part of a config builds."""

from __future__ import annotations

from collections.abc import Mapping


def kind_of(cfg: Mapping | None) -> str:
    """Name of the class that a config builds, given as a name or as the class; '' for none."""
    kind = (cfg or {}).get('type') or ''
    return kind.rsplit('.', 1)[-1] if isinstance(kind, str) else kind.__name__
