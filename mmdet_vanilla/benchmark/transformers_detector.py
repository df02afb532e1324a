"""RT-DETR of Hugging Face's ``transformers`` as an mmdet detector, to be compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmdet.models.detectors.base import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from mmengine.structures import InstanceData
from torch import Tensor
from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig


def without_denoising(loss_function: Callable) -> Callable:
    """Keeps denoising queries out of the loss of the last decoder layer.

    ``transformers`` 4.57.6 (requirements/peers.txt) takes them out of the outputs of every layer
    but the last, where they stay among those that are matched. Born beside the ground truth they
    win it, and the queries that predict are taught that there is nothing. Later releases split the
    last layer too.

    Args:
        loss_function: ``RTDetrForObjectDetectionLoss``.

    Returns:
        The same function, which matches and scores only the predicting queries of the last layer.
        Without denoising it computes the same.
    """

    def loss(
        logits: Tensor,
        labels: list[dict],
        device: torch.device,
        pred_boxes: Tensor,
        *args: Any,
        denoising_meta_values: dict | None = None,
        **kwargs: Any,
    ) -> tuple:
        if denoising_meta_values is not None:
            sizes = denoising_meta_values['dn_num_split']
            _, logits = logits.split(sizes, dim=1)
            _, pred_boxes = pred_boxes.split(sizes, dim=1)
        kwargs['denoising_meta_values'] = denoising_meta_values
        return loss_function(logits, labels, device, pred_boxes, *args, **kwargs)

    return loss


@MODELS.register_module()
class TransformersRTDETR(BaseDetector):
    """Trains and evaluates ``RTDetrForObjectDetection`` in mmdet's loops, from scratch.

    Model, matching and losses are those of ``transformers``, with a mistake in the loss of the last
    layer put right (:func:`without_denoising`); images, augmentation, optimizer and evaluation are
    mmdet's, so that nothing but the model differs from the others.

    Args:
        backbone: Arguments of ``RTDetrResNetConfig``.
        model: Arguments of ``RTDetrConfig``.
        num_classes: Number of classes.
        max_per_img: Number of detections.
        data_preprocessor: Config of the data preprocessor.
    """

    def __init__(
        self,
        backbone: dict,
        model: dict,
        num_classes: int,
        max_per_img: int = 100,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        config = RTDetrConfig(
            backbone_config=RTDetrResNetConfig(**backbone), num_labels=num_classes, **model
        )
        self.max_per_img = max_per_img
        self.model = RTDetrForObjectDetection(config)
        self.model.loss_function = without_denoising(self.model.loss_function)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """The loss that ``transformers`` trains with, summed over its parts."""
        labels = []
        for sample in batch_data_samples:
            height, width = sample.batch_input_shape
            gt = sample.gt_instances
            scale = gt.bboxes.new_tensor([width, height, width, height])
            labels.append(
                dict(class_labels=gt.labels, boxes=bbox_xyxy_to_cxcywh(gt.bboxes / scale))
            )
        return dict(loss=self.model(pixel_values=batch_inputs, labels=labels).loss)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Detections in pixels of the original images."""
        outs = self.model(pixel_values=batch_inputs)
        num_classes = outs.logits.shape[-1]
        results = []
        for sample, logits, boxes in zip(batch_data_samples, outs.logits, outs.pred_boxes):
            height, width = sample.batch_input_shape
            scores = logits.sigmoid().flatten()
            scores, index = scores.topk(min(self.max_per_img, len(scores)))
            boxes = bbox_cxcywh_to_xyxy(boxes)[index // num_classes]
            boxes = boxes * boxes.new_tensor([width, height] * 2)
            if rescale:
                boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(2)
            results.append(InstanceData(bboxes=boxes, scores=scores, labels=index % num_classes))
        return self.add_pred_to_datasample(batch_data_samples, results)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the backbone."""
        mask = torch.ones(batch_inputs[:, 0].shape, device=batch_inputs.device)
        return tuple(feat for feat, _ in self.model.model.backbone(batch_inputs, mask))

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None) -> tuple:
        outs = self.model(pixel_values=batch_inputs)
        return outs.logits, outs.pred_boxes
