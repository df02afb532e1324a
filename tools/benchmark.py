"""Speed and memory, ours beside others', in one run.

Example:
    python tools/benchmark.py inference configs/rtdetr_r18vd_coco.py --forms fused transformers
    python tools/benchmark.py training configs/rtdetr_r18vd_coco.py --batch 2 --objects 7 --memory
    python tools/benchmark.py profile configs/rtdetr_r18vd_coco.py --training
    python tools/benchmark.py growth configs/rtdetr_r18vd_coco.py --axes side batch --plot out.png
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import mmdet_vanilla

mmdet_vanilla.register()  # the options name what can be measured

from mmdet_vanilla.benchmark import cases, measure, profiling, report, scaling, surroundings
from mmdet_vanilla.benchmark.machine import Machine, measure_machine
from mmdet_vanilla.benchmark.peers import SHAPES, has_peer
from mmdet_vanilla.utils.arguments import add_cfg_options, positive
from mmdet_vanilla.utils.cli import check_outputs, run
from mmdet_vanilla.utils.errors import UserError
from mmdet_vanilla.utils.preflight import check_data_files, load_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)

    def add(function, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(function.__name__, help=help)
        command.set_defaults(function=function)
        command.add_argument('config', help='path of the config')
        command.add_argument('--json', type=Path, help='file to write the figures to')
        return command

    def add_sizes(command: argparse.ArgumentParser, batch: int) -> None:
        command.add_argument(
            '--batch', type=positive, nargs='+', default=[batch], help='images at once'
        )
        command.add_argument(
            '--size', type=positive, nargs='+', default=[640], help='side of an image'
        )
        command.add_argument('--rounds', type=positive, default=10, help='timed calls of each')
        command.add_argument('--memory', action='store_true', help='measure peak memory as well')

    command = add(inference, 'forward passes in several runtimes')
    add_sizes(command, batch=1)
    command.add_argument('--forms', nargs='+', choices=cases.RUNTIMES, help='by default all')
    command.add_argument('--backbone', action='store_true', help='the backbone alone')

    command = add(training, 'training steps')
    add_sizes(command, batch=2)
    command.add_argument('--objects', type=int, nargs='+', default=[7], help='objects of an image')
    command.add_argument('--forms', nargs='+', choices=cases.IMPLEMENTATIONS, help='by default all')

    command = add(profile, 'where the time goes, by part')
    command.add_argument('--training', action='store_true', help='of a training step')
    command.add_argument('--batch', type=positive, default=1)
    command.add_argument('--objects', type=int, default=7, help='objects of an image, in training')
    command.add_argument('--size', type=positive, default=640, help='side of an image')
    command.add_argument('--rounds', type=positive, default=5)

    command = add(start, 'seconds to import and to the first detection')
    command.add_argument('--rounds', type=positive, default=3)

    command = add(data, 'images per second of one worker')
    command.add_argument('--images', type=positive, default=50)
    add_cfg_options(command)

    command = add(growth, 'how the cost grows with one number at a time')
    command.add_argument('--axes', nargs='+', choices=scaling.AXES, default=list(scaling.AXES))
    command.add_argument(
        '--values', type=int, nargs='+', default=[], help='in place of an axis own'
    )
    command.add_argument('--rounds', type=positive, default=5)
    command.add_argument('--plot', type=Path, help='picture to write')
    return parser.parse_args()


def inference(args: argparse.Namespace, machine: Machine) -> list[report.Result]:
    """Prints a table for every size and batch."""
    forms = _forms(args, cases.RUNTIMES, peers=not args.backbone)
    everything = []
    for size, batch in itertools.product(args.size, args.batch):
        settings = dict(batch=batch, size=size)
        of_form = {
            form: cases.Inference(args.config, form, backbone_only=args.backbone, **settings)
            for form in forms
        }
        results = measure.measure(of_form, args.rounds, memory=args.memory)
        ours = cases.Inference(args.config, backbone_only=args.backbone, **settings)
        gflop = measure.count_gflop(ours)
        for result in results:
            result.gflop = gflop
        everything += _show(args, results, machine, settings)
    return everything


def training(args: argparse.Namespace, machine: Machine) -> list[report.Result]:
    """Prints a table for every batch and number of objects."""
    forms = _forms(args, cases.IMPLEMENTATIONS)
    everything = []
    for size, batch, objects in itertools.product(args.size, args.batch, args.objects):
        settings = dict(batch=batch, size=size, objects=objects)
        of_form = {form: cases.TrainingStep(args.config, form, **settings) for form in forms}
        results = measure.measure(of_form, args.rounds, warmup=1, memory=args.memory)
        everything += _show(args, results, machine, settings)
    return everything


def profile(args: argparse.Namespace, machine: Machine) -> dict:
    """Prints the parts of a forward pass or a training step."""
    settings = dict(batch=args.batch, size=args.size)
    if args.training:
        case = cases.TrainingStep(args.config, objects=args.objects, **settings)
        model = case.model()
        samples = case.samples(model.bbox_head.num_classes)
        parts = profiling.profile_training(model, case.images(), samples, args.rounds)
    else:
        case = cases.Inference(args.config, **settings)
        parts = profiling.profile_inference(*case.prepare(), args.rounds)
    print(f'\n{args.config}, {case.form}, batch {args.batch}, {args.size}x{args.size}\n')
    rows = [(part, f'{ms:.1f}', f'{s:.3f}') for part, ms, s in profiling.shares(parts)]
    print(report.markdown(['part', 'mean ms', 'share'], rows))
    return parts


def start(args: argparse.Namespace, machine: Machine) -> dict:
    """Prints how long processes take to get ready."""
    seconds = surroundings.start_seconds(args.config, args.rounds)
    print()
    print(report.markdown(['process', 'seconds'], [(k, f'{v:.2f}') for k, v in seconds.items()]))
    return seconds


def data(args: argparse.Namespace, machine: Machine) -> dict:
    """Prints what reading and preparing images takes."""
    cfg = load_config(args.config, args.cfg_options)
    check_data_files(cfg, ('train', 'test'))
    results, rows = {}, []
    for mode in ('train', 'test'):
        seconds = surroundings.pipeline_seconds(cfg, mode, args.images)
        results[mode] = seconds
        rate = 1 / seconds['pipeline']
        rows.append([mode, f'{rate:.0f}', *(f'{value * 1e3:.1f}' for value in seconds.values())])
    print()
    print(report.markdown(['data', 'images/s', 'pipeline ms', 'preprocessor ms'], rows))
    return results


def growth(args: argparse.Namespace, machine: Machine) -> dict:
    """Prints a table and draws a plot of every axis."""
    results = {}
    for name in args.axes:
        results[name] = scaling.sweep(name, args.config, args.rounds, args.values)
        result = results[name]
        print(f'\n{scaling.AXES[name].label}\n')
        rows = [['ms', *(f'{value:.0f}' for value in result['ms']), f'{result["ms_exponent"]:.2f}']]
        if 'mb' in result:
            values = (f'{value:.0f}' for value in result['mb'])
            rows.append(['MB', *values, f'{result["mb_exponent"]:.2f}'])
        print(report.markdown(['', *result['x'], 'exponent'], rows), flush=True)
    if args.plot:
        scaling.plot(results, args.plot)
    return results


def _forms(args: argparse.Namespace, known: Sequence[str], peers: bool = True) -> Sequence[str]:
    if peers and has_peer(args.config):
        return args.forms or known
    missing = [form for form in args.forms or () if form in cases.PEERS]
    if missing:
        raise UserError(
            f'--forms {missing[0]!r}: transformers (requirements/peers.txt) has whole '
            f'detectors of the shapes of {", ".join(SHAPES)}, nothing for this command.'
        )
    return args.forms or [form for form in known if form not in cases.PEERS]


def _show(
    args: argparse.Namespace,
    results: list[report.Result],
    machine: Machine,
    settings: dict[str, int],
) -> list[report.Result]:
    suffix = ', '.join(f'{name} {value}' for name, value in settings.items())
    part = ', backbone' if getattr(args, 'backbone', False) else ''
    print(f'\n{args.config}{part}, {suffix}\n')
    print(report.results_table(results, machine, cases.TRANSFORMERS), flush=True)
    for result in results:
        result.name = f'{result.name}, {suffix}'
    return results


def main(args: argparse.Namespace) -> None:
    check_outputs(args.json, getattr(args, 'plot', None))
    machine = measure_machine()
    print(machine)
    results = args.function(args, machine)
    if args.json:
        report.write_json(args.json, machine, results)


if __name__ == '__main__':
    run(parse_args, main)
