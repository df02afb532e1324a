"""Names the images that could not be read."""

from __future__ import annotations

from collections.abc import Iterator

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

_MOST_NAMED = 20


def _left_out(data_batch: object) -> Iterator[str]:
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    for sample in samples or ():
        # With test-time augmentation, the samples of an image share what was left out.
        first = sample[0] if isinstance(sample, (list, tuple)) else sample
        yield from first.get('left_out_images') or ()


@HOOKS.register_module()
class LeftOutImagesHook(Hook):
    """Logs every image that :class:`RobustCocoDataset` had to leave out.

    A warning names it when it is met first; another at the end of a training epoch, a validation
    or a test says how many there were, in all processes together.
    """

    # Before whatever may fail on a batch.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._named: set[str] = set()
        self._of_epoch: dict[str, None] = {}  # in the order of their appearance

    def before_train_epoch(self, runner: Runner) -> None:
        """Begins to count."""
        self._of_epoch = {}

    before_val_epoch = before_test_epoch = before_train_epoch

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None
    ) -> None:
        """Names what the batch does not hold."""
        for message in _left_out(data_batch):
            self._of_epoch[message] = None
            if message not in self._named:
                self._named.add(message)
                runner.logger.warning(f'Left out: {message}')

    before_val_iter = before_test_iter = before_train_iter

    def after_train_epoch(self, runner: Runner) -> None:
        """Says how many images the epoch went without."""
        self._summarise(runner, 'Training went without them')

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Says how many images were not seen."""
        self._summarise(runner, 'Their objects count as missed')

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Says how many images were not seen."""
        self.after_val_epoch(runner)

    def _summarise(self, runner: Runner, consequence: str) -> None:
        found = {message for part in all_gather_object(list(self._of_epoch)) for message in part}
        self._of_epoch = {}
        if not found:
            return
        shown = sorted(found)[:_MOST_NAMED]
        more = f' and {len(found) - len(shown)} more' if len(found) > len(shown) else ''
        runner.logger.warning(
            f'{len(found)} images could not be read. {consequence}: {" ".join(shown)}{more}'
        )
