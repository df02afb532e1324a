"""Train several small detectors from scratch on BCCD for the same time, and compare them.

An interrupted race goes on where it stopped when it is started again.

Example:
    python tools/train_race.py --data data/bccd --minutes 6
"""

import argparse
import json
from pathlib import Path

import mmdet_vanilla  # noqa: F401
from mmdet_vanilla.benchmark import Entrant, race
from mmdet_vanilla.utils.cli import add_cfg_options, run
from mmdet_vanilla.utils.preflight import PreflightError
from mmdet_vanilla.visualization import plot_learning_curves

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'bccd'


def parse_args() -> argparse.Namespace:
    names = sorted(path.stem.removesuffix('_bccd') for path in CONFIGS.glob('*_bccd.py'))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', default=names, help=f'default: {" ".join(names)}')
    parser.add_argument('--data', default='data/bccd', help='folder with train.json and the others')
    parser.add_argument('--minutes', type=float, default=6, help='training time of each')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/race'))
    add_cfg_options(parser)
    args = parser.parse_args()
    for name in args.names:
        if name not in names:
            raise PreflightError(f'no detector {name!r} in the race: expected {", ".join(names)}.')
    return args


def main() -> None:
    args = parse_args()
    root = args.data.rstrip('/') + '/'
    options = {f'{mode}_dataloader.dataset.data_root': root for mode in ('train', 'val', 'test')}
    options.update({f'{mode}_evaluator.ann_file': f'{root}{mode}.json' for mode in ('val', 'test')})
    options.update(args.cfg_options or {})
    entrants = [Entrant(name, str(CONFIGS / f'{name}_bccd.py'), options) for name in args.names]
    results = race(entrants, args.out, args.minutes * 60)
    (args.out / 'race.json').write_text(json.dumps(results, indent=2) + '\n')
    plot_learning_curves(
        {name: result['curve'] for name, result in results.items()}, args.out / 'race.png'
    )
    print('| detector | s/step | steps | AP | AP50 | AP75 |\n|---|---|---|---|---|---|')
    for name, result in results.items():
        metrics = [f'{result["metrics"][f"coco/bbox_mAP{key}"]:.3f}' for key in ('', '_50', '_75')]
        row = [name, f'{result["step_seconds"]:.3f}', str(result['iterations']), *metrics]
        print('|', ' | '.join(row), '|')


if __name__ == '__main__':
    run(main)
