"""Lets ``load_from`` name a checkpoint of the RT-DETR authors or of ``transformers``."""

from __future__ import annotations

from mmdet.datasets import CocoDataset
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet_vanilla.models import RTDETR
from mmdet_vanilla.utils.convert import is_foreign, rename_to_ours

from .detector_of import detector_of


@HOOKS.register_module()
class ConvertCheckpointHook(Hook):
    """Renames the weights of a foreign RT-DETR checkpoint after it was read."""

    # Before EMAHook, which takes the weights from the checkpoint.
    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replaces foreign contents by a state dict of ours."""
        model = detector_of(runner)
        if not isinstance(model, RTDETR) or not is_foreign(checkpoint):
            return
        source, state, left_out = rename_to_ours(checkpoint)
        checkpoint.clear()
        checkpoint['state_dict'] = state
        classes = state.get('bbox_head.enc_score_head.bias')
        if classes is not None and len(classes) == len(CocoDataset.METAINFO['classes']):
            # Foreign checkpoints hold no names; those with 80 classes are COCO's.
            checkpoint['meta'] = dict(dataset_meta=dict(CocoDataset.METAINFO))
        runner.logger.info(f'Converted the weights of {source}; left out {len(left_out)} tensors.')
