"""Shipping a detector, and the plug-in for mmdeploy that makes it possible.

In a deploy config: ``codebase_config = dict(type='mmdet', module=['mmdet_vanilla.deploy'])``.
"""

from . import mmdeploy_compat, openvino_bridge, rewriters, symbolics  # noqa: F401
from .errors import DeployError

__all__ = ['DeployError']
