"""What can be wrong with a comparison before it begins."""

from __future__ import annotations

from mmdet_vanilla.utils.errors import UserError


class ComparisonError(UserError, ValueError):
    """An item, a data set or a setting that cannot be compared."""
