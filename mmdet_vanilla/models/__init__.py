from .backbones import *  # noqa: F403
from .data_preprocessors import *  # noqa: F403
from .dense_heads import *  # noqa: F403
from .detectors import *  # noqa: F403
from .layers import *  # noqa: F403
from .losses import *  # noqa: F403
from .necks import *  # noqa: F403
from .task_modules import *  # noqa: F403
