"""All data of a comparison, with the images that cannot be read left out."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from mmdet_vanilla.datasets.user_data import UserData, load_user_data
from mmdet_vanilla.datasets.user_data.layout import split_of

from .dataset import Split, read_split, unreadable_images, without_images
from .settings import Settings


@dataclass(frozen=True)
class ComparisonData:
    """All data of a comparison.

    Attributes:
        split: What detectors are compared on.
        user_data: It, and with a race the data to train on and to watch.
        unreadable: Names of the images that were left out.
    """

    split: Split
    user_data: UserData
    unreadable: tuple[str, ...] = ()


def open_data(settings: Settings) -> ComparisonData:
    """Loads the data that settings name, in any format, and decodes every image once.

    Args:
        settings: Of the comparison, with ``data``.

    Raises:
        UserError: If there are none, or they are empty or damaged, or no image can be read.
    """
    wanted = settings.split or 'test'
    root, annotations = settings.data, dict(settings.annotations or {})
    if root.endswith('.json') and os.path.isfile(root):
        file = Path(root).absolute()
        # In COCO's layout the folders of the images are beside that of the annotations.
        root = str(file.parents[file.parent.name == 'annotations'])
        wanted = settings.split or split_of(str(file), root) or 'test'
        annotations.setdefault(wanted, str(file))
    names = dict.fromkeys((*(('train', 'val') if settings.train else ()), wanted))
    found = load_user_data(
        root,
        tuple(names),
        annotations,
        settings.img_dir,
        allow_outside=settings.allow_outside,
        processes=os.cpu_count() or 1,
    )
    unreadable: dict[Path, str] = {}
    loaded, splits = {}, {}
    for name, part in found.splits.items():
        split = read_split(name, part.ann_file, part.image_dir)
        bad = unreadable_images(split)
        unreadable.update({split.folder / file: file for file in bad.values()})
        splits[name] = split = without_images(split, bad, settings.out / 'data')
        loaded[name] = replace(
            part,
            ann_file=str(split.ann_file.absolute()),
            num_images=len(split.content['images']),
        )
    return ComparisonData(splits[wanted], replace(found, splits=loaded), tuple(unreadable.values()))
