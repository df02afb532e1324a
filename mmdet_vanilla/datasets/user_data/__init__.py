from .coco import read_coco
from .layout import Source, find_splits
from .load import LoadedSplit, UserData, load_user_data, read_splits, write_coco
from .problems import (
    KINDS,
    AnnotationError,
    NoAnnotationsError,
    Problems,
    printable,
    sentence,
    verdict,
)
from .repair import repair, subset
from .split import Split
from .voc import read_voc
from .yolo import read_yolo

__all__ = [
    'KINDS',
    'AnnotationError',
    'LoadedSplit',
    'NoAnnotationsError',
    'Problems',
    'Source',
    'Split',
    'UserData',
    'find_splits',
    'load_user_data',
    'printable',
    'read_coco',
    'read_splits',
    'read_voc',
    'read_yolo',
    'repair',
    'sentence',
    'subset',
    'verdict',
    'write_coco',
]
