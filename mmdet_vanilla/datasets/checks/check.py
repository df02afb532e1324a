"""One pass over a data set: everything that is wrong with it, and what it looks like."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..user_data import KINDS, Split, printable, read_splits, repair, verdict
from .images import check_images


@dataclass(frozen=True)
class CheckResult:
    """What was found.

    Attributes:
        kind: ``'COCO'``, ``'VOC'`` or ``'YOLO'``.
        splits: Repaired splits by name, with their problems.
    """

    kind: str
    splits: dict[str, Split]

    @property
    def fatal(self) -> bool:
        """Whether training would refuse the data."""
        return any(split.problems.fatal for split in self.splits.values())

    def rows(self) -> list[tuple[str, str, int, str, str]]:
        """Split, verdict, number, what is wrong with examples, and what is done or to be done."""
        return [
            (name, verdict(kind), found.count, _what(kind, found.examples), KINDS[kind].remedy)
            for name, split in self.splits.items()
            for kind, found in split.problems
        ]

    def as_dict(self) -> dict:
        """JSON form."""
        return dict(
            kind=self.kind,
            fatal=self.fatal,
            splits={
                name: dict(
                    source=split.source,
                    image_dir=split.image_dir,
                    images=len(split.file_names),
                    boxes=int((~split.ignored).sum()),
                    boxes_per_class={
                        split.classes[label]: int(count)
                        for label, count in enumerate(_boxes_per_class(split))
                    },
                    problems={
                        kind: dict(
                            verdict=verdict(kind),
                            count=found.count,
                            what=KINDS[kind].what,
                            remedy=KINDS[kind].remedy,
                            examples=found.examples,
                        )
                        for kind, found in split.problems
                    },
                )
                for name, split in self.splits.items()
            },
        )


def check_data(
    root: str,
    annotations: dict[str, str | None] | None = None,
    img_dir: str | None = None,
    allow_outside: bool = False,
    images: bool = False,
    num_queries: int = 300,
    processes: int = 1,
    progress: Callable[[str, int], Callable[[int], object]] | None = None,
) -> CheckResult:
    """Checks the annotations of a data set, and its images if asked to.

    Args:
        root: Folder of the data set, or its annotation or YAML file.
        annotations: COCO files by split.
        img_dir: Folder of the images.
        allow_outside: Whether file names may lead out of the image folder.
        images: Whether to decode every image, too.
        num_queries: Of the model that is to be trained.
        processes: Processes that work at the same time.
        progress: Called with a title and a number of steps; returns what is called as they are
            done.

    Returns:
        What was found.

    Raises:
        NoAnnotationsError: If there is nothing to check.
        AnnotationError: If an annotation file cannot be read at all.
    """
    sources, read = read_splits(root, annotations, img_dir, None, allow_outside, processes)
    begin = progress or (lambda title, steps: lambda advance: None)
    step = begin('annotations', len(read))
    splits = {}
    for name, split in read.items():
        splits[name] = repaired = repair(split)
        counts = repaired.boxes_per_image()
        for index in np.flatnonzero(counts > num_queries):
            text = f'{repaired.file_names[index]}: {counts[index]}'
            repaired.problems.add('more-boxes-than-queries', text)
        step(1)
    _compare_classes(splits)
    if images:
        total = sum(len(split.file_names) for split in splits.values())
        check_images(splits, processes, begin('images', total))
    return CheckResult(next(iter(sources.values())).kind, splits)


def write_report(result: CheckResult, folder: Path, pictures: bool = True) -> None:
    """Writes ``report.json``, ``histograms.png`` and ``SPLIT.png`` with some images.

    Args:
        result: What was found.
        folder: Where to.
        pictures: Whether to draw.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.as_dict(), indent=2)
    (folder / 'report.json').write_text(text + '\n', encoding='utf-8')
    drawable = {name: split for name, split in result.splits.items() if split.file_names}
    if pictures and drawable and not result.fatal:
        from .pictures import draw_samples, plot_histograms

        plot_histograms(drawable, folder / 'histograms.png')
        for name, split in drawable.items():
            draw_samples(split, folder / f'{name}.png')


def _boxes_per_class(split: Split) -> np.ndarray:
    labels = split.labels[~split.ignored]
    return np.bincount(labels[labels >= 0], minlength=len(split.classes))


def _compare_classes(splits: dict[str, Split]) -> None:
    train = splits.get('train')
    if train is None:
        return
    learnt = {name for name, count in zip(train.classes, _boxes_per_class(train)) if count}
    for name, split in splits.items():
        for label, count in enumerate(_boxes_per_class(split)):
            if count and split.classes[label] not in learnt and name != 'train':
                split.problems.add('class-not-in-train', split.classes[label])


def _what(kind: str, examples: Sequence[str]) -> str:
    shown = [example for example in examples if example]
    return f'{KINDS[kind].what}: {"; ".join(shown)}' if shown else KINDS[kind].what


def summary_line(name: str, split: Split) -> str:
    """A split in a sentence."""
    return (
        f'{name}: {len(split.file_names)} images, {int((~split.ignored).sum())} boxes of '
        f'{len(split.classes)} classes, from {printable(split.source)}'
    )
