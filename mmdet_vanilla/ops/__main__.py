"""Runs a script of mmdet's that imports mmcv's operators before it reads its config.

Example:
    python -m mmdet_vanilla.ops mmdetection/tools/test.py CONFIG CHECKPOINT
"""

import runpy
import sys

# The package was imported for this module, and its stand-ins with it.
if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit('usage: python -m mmdet_vanilla.ops SCRIPT.py [ARGUMENT ...]')
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name='__main__')
