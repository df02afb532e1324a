"""All data of a comparison, with the images that cannot be read left out."""

from __future__ import annotations

from dataclasses import dataclass, field

from .dataset import Split, find_split, unreadable_images, without_images
from .errors import ComparisonError
from .settings import Settings


@dataclass(frozen=True)
class ComparisonData:
    """All data of a comparison.

    Attributes:
        split: What detectors are compared on.
        train_splits: ``'train'`` and ``'val'`` data of a race, else nothing.
        unreadable: Names of the images that were left out.
    """

    split: Split
    train_splits: dict[str, Split] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()


def open_data(settings: Settings) -> ComparisonData:
    """Finds the data that settings name, and decodes every image once.

    Args:
        settings: Of the comparison, with ``data``.

    Raises:
        ComparisonError: If there are none, or they are empty or damaged.
    """
    found = find_split(settings.data, settings.split, settings.images)
    splits = {'eval': found}
    if settings.train:
        splits['train'] = find_split(settings.data, 'train')
        try:
            splits['val'] = find_split(settings.data, 'val')
        except ComparisonError:
            splits['val'] = found
        if set(splits['train'].classes) != set(found.classes):
            raise ComparisonError(
                f'the categories of {splits["train"].ann_file} and {found.ann_file} differ.'
            )
    unreadable = {}
    for key, split in splits.items():
        bad = unreadable_images(split)
        unreadable.update({f'{split.name}/{i}': name for i, name in bad.items()})
        splits[key] = without_images(split, bad, settings.out / 'data')
    return ComparisonData(splits.pop('eval'), splits, tuple(unreadable.values()))
