"""How to compare."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mmdet_vanilla.utils.images import read_image

from .errors import ComparisonError
from .race import Budget


@dataclass(frozen=True)
class Settings:
    """How to compare.

    Attributes:
        out: Folder for everything.
        data: Folder of a data set, or a COCO file of it; ``None`` measures costs.
        split: ``'train'``, ``'val'`` or ``'test'``. By default that of the file, or the test data,
            or else the validation data.
        annotations: By split, COCO files to take instead of looking for any.
        img_dir: Folder of the images, instead of looking for it.
        allow_outside: Whether file names may lead out of the image folder.
        device: Of PyTorch models.
        threads: Of everything on the CPU; 0 leaves it to PyTorch.
        rounds: Timed calls of every item with one image.
        warmup: Calls before them.
        batches: Batch sizes of throughput.
        batch_rounds: Timed calls with more than one image.
        img_scale: Side of a square that all images are forced to; ``None``: own size.
        image: Image file that costs are measured on; by default some of the data, or a drawn one.
        time_decoding: Whether reading and decoding image files counts as preprocessing.
        resamples: Of the bootstrap; 0 leaves it out.
        seed: Of random weights, training and resamples.
        train: Budget of a training beforehand.
        keep_init: Whether training keeps ``Pretrained`` initialisation.
        score_thr: Least score of a drawn detection and of one to disagree on, 0..1.
    """

    out: Path
    data: str | None = None
    split: str | None = None
    annotations: dict[str, str] | None = None
    img_dir: str | None = None
    allow_outside: bool = False
    device: str = 'cpu'
    threads: int = 0
    rounds: int = 20
    warmup: int = 2
    batches: tuple[int, ...] = (1, 4, 8)
    batch_rounds: int = 3
    img_scale: int | None = None
    image: str | None = None
    time_decoding: bool = False
    resamples: int = 400
    seed: int = 0
    train: Budget | None = None
    keep_init: bool = False
    score_thr: float = 0.3

    def __post_init__(self) -> None:
        least_values = dict(rounds=1, warmup=0, batch_rounds=1, resamples=0, threads=0, seed=0)
        for key, least in least_values.items():
            if getattr(self, key) < least:
                option = '--' + key.replace('_', '-')
                raise ComparisonError(f'{option} {getattr(self, key)}: expected {least} or more.')
        if not self.batches or min(self.batches) < 1:
            raise ComparisonError(f'--batches {self.batches}: expected numbers above 0.')
        if self.img_scale is not None and self.img_scale < 32:
            raise ComparisonError(f'--img-scale {self.img_scale}: expected 32 or more.')
        if not 0 <= self.score_thr <= 1:
            raise ComparisonError(f'--score-thr {self.score_thr}: expected 0 to 1.')
        if self.image and not Path(self.image).is_file():
            raise ComparisonError(f'no image at {self.image}.')
        if self.image:
            read_image(self.image)
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ComparisonError(f'--device {self.device} cannot be used: {reason}') from None
        if (self.annotations or self.img_dir) and not self.data:
            raise ComparisonError(
                '--img-dir and --test-ann need --data, the folder that they are in.'
            )
        if self.train and not self.data:
            raise ComparisonError('--train needs --data with a train split.')

    @property
    def num_threads(self) -> int:
        """Threads, with PyTorch's choice filled in."""
        return self.threads or torch.get_num_threads()

    def as_dict(self) -> dict:
        """JSON form, without the folder."""
        content = asdict(self)
        content.pop('out')
        content.update(
            batches=list(self.batches),
            threads=self.num_threads,
            train=str(self.train) if self.train else None,
        )
        return content
