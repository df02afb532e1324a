"""RT-DETR (https://arxiv.org/abs/2304.08069) as an mmdet detector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.detectors import SingleStageDetector
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.device import get_device
from torch import nn

from ..layers.reparam import switch_to_deploy


@MODELS.register_module()
class RTDETR(SingleStageDetector):
    """Backbone, hybrid encoder as neck, decoder as dense head.

    RT-DETR's encoder is a neck and its decoder a head that turns feature maps into detections, so
    the detector keeps mmdet's single-stage contract, and all that is written for it. The neck's
    and the head's ``in_channels`` may be left out: they follow from the backbone, so that changing
    the backbone takes one line.

    Args:
        backbone: Config of the backbone.
        neck: Config of the neck.
        bbox_head: Config of the head.
        train_cfg: Given to the head.
        test_cfg: Given to the head.
        data_preprocessor: Config of the data preprocessor.
        channels_last: Whether weights, and with them feature maps, are laid out channels last:
            faster on CPUs, in training and in inference (docs/performance.md). None for where the
            machine has no accelerator, on which depthwise convolutions can be slower that way.
        init_cfg: mmengine's initialisation config.

    Raises:
        ValueError: If the neck's ``in_channels`` are not the channels of the backbone's outputs, or
            are left out with a backbone that does not state them.
    """

    def __init__(
        self,
        backbone: ConfigType,
        neck: ConfigType,
        bbox_head: ConfigType,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        channels_last: bool | None = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        # mmdet's constructor writes into the configs that it is given; ours are copied, since a
        # config is dumped for the next run after the model was built from it.
        super(SingleStageDetector, self).__init__(
            data_preprocessor=data_preprocessor, init_cfg=init_cfg
        )
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build({**neck, 'in_channels': self._neck_in_channels(neck)})
        head = {**bbox_head, 'train_cfg': train_cfg, 'test_cfg': test_cfg}
        head.setdefault('in_channels', [self.neck.out_channels] * len(self.neck.in_channels))
        self.bbox_head = MODELS.build(head)
        if channels_last is None:
            channels_last = get_device() == 'cpu'
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def _neck_in_channels(self, neck: ConfigType) -> tuple[int, ...]:
        stated = neck.get('in_channels')
        actual = getattr(self.backbone, 'out_channels', None)
        if not isinstance(actual, Sequence):  # some of mmdet's keep another number there
            actual = None
        name = type(self.backbone).__name__
        if stated is None and actual is None:
            raise ValueError(
                f"the neck's in_channels were left out, but {name} does not state its "
                'out_channels: set neck.in_channels to the channels of its outputs.'
            )
        if stated is not None and actual is not None and tuple(stated) != tuple(actual):
            raise ValueError(
                f'neck.in_channels={tuple(stated)}, but the outputs of {name} have '
                f'{tuple(actual)} channels: leave in_channels out to take these.'
            )
        return tuple(actual if stated is None else stated)

    def switch_to_deploy(self) -> nn.Module:
        """Fuses backbone, neck and head in place for inference; no effect the second time.

        Returns:
            The detector itself.
        """
        for child in self.children():
            switch_to_deploy(child)
        return self
