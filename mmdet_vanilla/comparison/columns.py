"""The columns of a comparison: one place says what they are called, hold and mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Column(NamedTuple):
    """One column.

    Attributes:
        key: Name in ``compare.csv`` and ``compare.json``; does not change between versions.
        meaning: What it holds, with its unit.
        title: Name in tables for people; empty where it is in the files only.
        show: Makes the text in tables for people.
        better: ``'low'``, ``'high'``, or ``''`` where neither is.
    """

    key: str
    meaning: str
    title: str = ''
    show: Callable = str
    better: str = ''


def _mega(value: float) -> str:
    return f'{value / 1e6:.1f}'


def _giga(value: float) -> str:
    return f'{value / 1e9:.1f}' if value >= 1e9 else f'{value / 1e9:.3f}'


def _ms(value: float) -> str:
    return f'{value:.0f}' if value >= 100 else f'{value:.1f}'


def _ap(value: float) -> str:
    return f'{value:.3f}'


def _rate(value: float) -> str:
    return f'{value:.2f}' if value < 10 else f'{value:.1f}'


COLUMNS = (
    Column('name', 'name in tables, unique', 'detector'),
    Column('item', 'as given on the command line'),
    Column('kind', 'pytorch, onnxruntime or openvino'),
    Column('form', 'training, fused or exported: what latency, memory and AP are of', 'form'),
    Column('weights', 'random, checkpoint, trained (by --train) or exported'),
    Column('status', 'ok, or failed'),
    Column('reason', 'why something failed or is empty'),
    Column('input', 'height x width of the network for the first image, pixels', 'input'),
    Column('input_height', 'of the network for the first image, pixels'),
    Column('input_width', 'of the network for the first image, pixels'),
    Column('parameters', 'of the measured form', 'params M', _mega, 'low'),
    Column('parameters_training', 'of the training form'),
    Column('parameters_fused', 'of the fused form; empty where there is none'),
    Column(
        'macs',
        'multiply-accumulate operations of the measured form for one image at its input size',
        'GMACs',
        _giga,
        'low',
    ),
    Column('macs_training', 'of the training form'),
    Column('macs_fused', 'of the fused form'),
    Column('file_bytes', 'size of the checkpoint or exported file', 'file MB', _mega, 'low'),
    Column('latency_ms', 'one image, median over rounds, milliseconds', 'ms', _ms, 'low'),
    Column('latency_p10_ms', '10th percentile', 'p10', _ms),
    Column('latency_p95_ms', '95th percentile', 'p95', _ms),
    Column('preprocess_ms', 'of which preprocessing, median', 'pre', _ms),
    Column('network_ms', 'of which the network, median', 'network', _ms),
    Column(
        'postprocess_ms',
        'of which decoding of boxes, top-k and NMS, median; empty where it is in the network',
        'post',
        _ms,
    ),
    Column('rounds', 'timed calls with one image'),
    Column(
        'peak_memory_bytes',
        'peak of a process of its own while it detects',
        'peak MB',
        _mega,
        'low',
    ),
    Column('import_memory_bytes', 'of which resident before the model was built'),
    Column(
        'startup_seconds', 'from starting Python to the first detections', 'start s', _rate, 'low'
    ),
    Column('AP', "COCO's AP at IoU 0.50:0.95, 0 to 1", 'AP', _ap, 'high'),
    Column('AP_low', 'lower end of its 95 % interval over resampled images'),
    Column('AP_high', 'upper end'),
    Column('AP50', 'AP at IoU 0.5', 'AP50', _ap, 'high'),
    Column('AP75', 'AP at IoU 0.75', 'AP75', _ap, 'high'),
    Column('AP_small', 'AP of objects below 32 x 32 pixels', 'AP S', _ap, 'high'),
    Column('AP_medium', 'AP of objects up to 96 x 96 pixels', 'AP M', _ap, 'high'),
    Column('AP_large', 'AP of larger objects', 'AP L', _ap, 'high'),
    Column('AR', 'average recall with 100 detections', 'AR', _ap, 'high'),
    Column('train_iterations', 'by --train: iterations'),
    Column('train_batch_size', 'by --train: images of an iteration'),
)


def throughput_column(batch_size: int) -> Column:
    """Images a second at a batch size; ``throughput_1`` and so on, by ``--batches``."""
    return Column(
        f'throughput_{batch_size}',
        f'images a second in batches of {batch_size}',
        f'img/s @{batch_size}',
        _rate,
        'high',
    )


def class_column(name: str) -> Column:
    """AP of a class; ``AP:name``."""
    return Column(f'AP:{name}', f'AP of {name}', f'AP {name}', _ap, 'high')


def columns_of(batches: list[int], classes: list[str]) -> list[Column]:
    """All columns of a comparison, in order."""
    columns = list(COLUMNS)
    where = next(i for i, c in enumerate(columns) if c.key == 'peak_memory_bytes')
    columns[where:where] = [throughput_column(batch_size) for batch_size in batches]
    return columns + [class_column(name) for name in classes]


def shown_columns(columns: list[Column], rows: list[dict]) -> list[Column]:
    """Those for people, without classes and what is empty in every row."""
    shown = []
    for column in columns:
        filled = any(row.get(column.key) is not None for row in rows)
        if column.title and filled and not column.key.startswith('AP:'):
            shown.append(column)
    return shown


def cell(column: Column, row: dict) -> str:
    """The text of a cell in tables for people."""
    value = row.get(column.key)
    return '–' if value is None else column.show(value)
