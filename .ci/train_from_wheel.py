# Copyright (c) mmdet_vanilla contributors. All rights reserved.
"""Trains two iterations with the installed package, from the current folder, which is empty.

Example:
    python /path/to/clone/.ci/train_from_wheel.py /path/to/clone
"""

import subprocess
import sys
from pathlib import Path

# The demo's config below configs/. It reads its data from data/digits_on_paper.
CONFIG = '_base_/../rtdetr_vanillanet_digits.py'

# Eight pages in batches of four are two iterations.
EXPERIMENT = f"""
_base_ = 'mmdet_vanilla::{CONFIG}'
train_cfg = dict(max_epochs=1, val_interval=1)
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
"""


def installed_package(clone: Path) -> Path:
    import mmdet_vanilla

    package = Path(mmdet_vanilla.__file__).resolve().parent
    if clone in package.parents:
        sys.exit(f'mmdet_vanilla was imported from the clone: {package}')
    return package


def call(*command: object) -> None:
    print('$', *command, flush=True)
    subprocess.run([sys.executable, *map(str, command)], check=True)


def iterations(checkpoint: Path) -> int:
    import torch

    # the file was written by the training above
    return torch.load(checkpoint, map_location='cpu', weights_only=False)['meta']['iter']


def main() -> None:
    clone = Path(sys.argv[1]).resolve()
    tools = installed_package(clone) / '.mim' / 'tools'
    converter = tools / 'dataset_converters' / 'digits_on_paper.py'
    call(converter, 'data/digits_on_paper', '--train-pages', 8, '--val-pages', 4)
    Path('experiment.py').write_text(EXPERIMENT)
    call(tools / 'train.py', 'experiment.py', '--work-dir', 'run')
    done = iterations(Path('run/epoch_1.pth'))
    if done != 2:
        sys.exit(f'{done} iterations were trained instead of 2')
    print(f'2 iterations trained with {tools.parents[1]}')


if __name__ == '__main__':
    main()
