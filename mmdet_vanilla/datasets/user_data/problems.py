"""What can be wrong with a data set, how bad it is, and what is done about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ...utils.errors import UserError

FATAL, REPAIRED, REPORTED = 'fatal', 'repaired', 'reported'
_MOST_EXAMPLES = 5
_LONGEST_EXAMPLE = 200


class AnnotationError(UserError, ValueError):
    """Annotations cannot be used as they are; the message says which, and what to do."""


class NoAnnotationsError(AnnotationError):
    """There are no annotations where they should be."""


class Kind(NamedTuple):
    """A kind of problem.

    Attributes:
        verdict: ``'fatal'``: nothing is trained with it; ``'repaired'``: the data are used after
            what ``remedy`` says; ``'reported'``: the data are used as they are.
        what: What is wrong, after a number.
        remedy: What to do, or how it was repaired.
    """

    verdict: str
    what: str
    remedy: str


_LEFT_OUT = 'left out'
KINDS = {
    # Annotation files
    'malformed-image': Kind(
        FATAL,
        'entries of images are malformed',
        'every one needs id (a number or text) and file_name (text)',
    ),
    'malformed-annotation': Kind(
        FATAL,
        'annotations are malformed',
        'every one needs image_id, category_id and bbox, four numbers',
    ),
    'malformed-category': Kind(
        FATAL,
        'categories are malformed',
        'every one needs id (a number or text) and name (text that is not blank)',
    ),
    'malformed-file': Kind(
        FATAL, 'annotation files of an image cannot be used', 'correct or remove them'
    ),
    'duplicate-image-id': Kind(
        FATAL, 'images share an id', 'nobody can tell whose the boxes are: number them anew'
    ),
    'duplicate-category-id': Kind(FATAL, 'categories share an id', 'number them anew'),
    'path-escape': Kind(
        FATAL,
        'file names lead out of the image folder',
        'move the images into it, or trust the file with --allow-outside',
    ),
    'unknown-category': Kind(
        FATAL,
        'boxes belong to a category that is not declared',
        'declare it or remove them: the model would learn that their objects are background',
    ),
    'corner-boxes': Kind(
        FATAL,
        'boxes leave the image as x, y, width, height, but not as x1, y1, x2, y2',
        'the file holds corners: COCO boxes are x, y, width, height',
    ),
    'relative-boxes': Kind(
        FATAL,
        'boxes are within 0..1',
        'the file holds shares of the image: COCO and VOC boxes are in pixels',
    ),
    'pixel-boxes': Kind(
        FATAL,
        'boxes are far beyond 0..1',
        'the files hold pixels: YOLO boxes are shares of width and height',
    ),
    'no-image': Kind(
        FATAL, 'images, all of them, are not in the image folder', 'name it by --img-dir'
    ),
    'duplicate-file': Kind(
        REPAIRED, 'entries name an image that another one names', 'their boxes were put together'
    ),
    'duplicate-category-name': Kind(
        REPAIRED, 'categories have the name of another one', 'taken as one class'
    ),
    'duplicate-annotation-id': Kind(
        REPAIRED, 'annotations share an id', 'numbered anew (COCO metrics need different ones)'
    ),
    'unknown-image': Kind(REPAIRED, 'boxes belong to an image that is not listed', _LEFT_OUT),
    'no-annotation-file': Kind(
        REPAIRED, 'names in ImageSets/Main have no annotation file', _LEFT_OUT
    ),
    'missing-image': Kind(REPAIRED, 'images do not exist', _LEFT_OUT),
    'other-suffix': Kind(
        REPAIRED,
        'images exist with another name than the annotation says',
        'found by the name of the annotation file',
    ),
    'missing-size': Kind(
        REPAIRED, 'images are annotated without width and height', 'read from the image'
    ),
    'unreadable-header': Kind(REPAIRED, 'images without annotated size cannot be read', _LEFT_OUT),
    'non-finite-box': Kind(REPAIRED, 'boxes are not finite', _LEFT_OUT),
    'empty-box': Kind(REPAIRED, 'boxes have no or a negative width or height', _LEFT_OUT),
    'outside-box': Kind(REPAIRED, 'boxes lie outside of their image', _LEFT_OUT),
    'overhanging-box': Kind(REPAIRED, 'boxes reach out of their image', 'cut at its edge'),
    'small-box': Kind(
        REPAIRED, 'boxes are narrower than a pixel', 'left out, as MMDetection does with them'
    ),
    'bad-flag': Kind(REPAIRED, 'iscrowd is neither 0 nor 1', 'taken as 1'),
    'box-of-polygon': Kind(
        REPAIRED, 'annotations have a polygon and no box', 'the box around the polygon was taken'
    ),
    'crowd': Kind(
        REPORTED, 'boxes are marked as crowd or to be ignored', 'neither learnt nor counted'
    ),
    'difficult': Kind(REPORTED, 'boxes are marked as difficult', 'neither learnt nor counted'),
    'image-without-box': Kind(REPORTED, 'images have no box', 'learnt as background'),
    'unused-category': Kind(REPORTED, 'categories have no box', 'the model gets them all the same'),
    'duplicate-box': Kind(
        REPORTED, 'boxes have the same place and class as another one', 'used as they are'
    ),
    'more-boxes-than-queries': Kind(
        REPORTED,
        'images have more boxes than the model has queries',
        'not all can be found: raise model.bbox_head.num_queries and model.test_cfg.max_per_img',
    ),
    'class-not-in-train': Kind(
        REPORTED, 'classes have no box in the training data', 'they cannot be learnt'
    ),
    # Images
    'unreadable-image': Kind(
        REPAIRED, 'images cannot be read', 'training leaves them out and names them'
    ),
    'other-size': Kind(
        REPORTED,
        'images have another size than annotated',
        'look whether the boxes belong to them',
    ),
    'turned-image': Kind(
        REPORTED,
        'images are annotated as they are stored and not as EXIF turns them',
        'loaded without turning',
    ),
    'duplicate-image': Kind(
        REPORTED, 'images show the same pixels as another one of their split', 'used as they are'
    ),
    'leaked-image': Kind(
        REPORTED,
        'images show the same pixels as one of another split',
        'metrics will be too good: keep them in one split',
    ),
}


@dataclass
class Found:
    """How often a problem was found, and the first examples."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


class Problems:
    """The problems of one split."""

    def __init__(self) -> None:
        self._found: dict[str, Found] = {}

    def add(self, kind: str, example: object = '', count: int = 1) -> None:
        """Records a problem.

        Args:
            kind: Key of ``KINDS``.
            example: Where it is; kept of the first ones only.
            count: How often.
        """
        found = self._found.setdefault(kind, Found())
        found.count += count
        if len(found.examples) < _MOST_EXAMPLES:
            found.examples.append(printable(example)[:_LONGEST_EXAMPLE])

    def __iter__(self) -> Iterator[tuple[str, Found]]:
        order = (FATAL, REPAIRED, REPORTED)
        return iter(sorted(self._found.items(), key=lambda item: order.index(verdict(item[0]))))

    def __contains__(self, kind: str) -> bool:
        return kind in self._found

    def __getitem__(self, kind: str) -> Found:
        return self._found[kind]

    @property
    def fatal(self) -> bool:
        """Whether the data must not be used."""
        return any(verdict(kind) == FATAL for kind in self._found)

    def raise_if_fatal(self, source: str) -> None:
        """Stops where the data must not be used.

        Raises:
            AnnotationError: With all fatal problems.
        """
        texts = [sentence(kind, found) for kind, found in self if verdict(kind) == FATAL]
        if texts:
            raise AnnotationError(f'{printable(source)}: {" ".join(texts)}')


def verdict(kind: str) -> str:
    """``'fatal'``, ``'repaired'`` or ``'reported'``."""
    return KINDS[kind].verdict


def sentence(kind: str, found: Found) -> str:
    """A problem in a sentence, with examples."""
    where = '; '.join(example for example in found.examples if example)
    where = f' ({where}{"; ..." if found.count > len(found.examples) else ""})' if where else ''
    return f'{found.count} {KINDS[kind].what}{where}: {KINDS[kind].remedy}.'


def printable(text: object) -> str:
    """Text in which nothing is left that a terminal could not print, on one line."""
    text = str(text).encode('utf-8', 'backslashreplace').decode('utf-8')
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)
