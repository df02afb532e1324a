from .samplers import *  # noqa: F403
from .transforms import *  # noqa: F403
