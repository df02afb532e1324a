"""What goes wrong when a model is shipped."""

from __future__ import annotations

from mmdet_vanilla.utils.errors import UserError


class DeployError(UserError, RuntimeError):
    """An export, or a runtime's check of it, that cannot be carried out."""
