"""What mmdeploy exports instead of our modules' own methods."""

from __future__ import annotations

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdeploy.utils import IR
from torch import Tensor

from mmdet_vanilla.models.layers.denoising import box_cxcywh_to_xyxy

from .errors import DeployError


@FUNCTION_REWRITER.register_rewriter(
    'mmdet_vanilla.models.dense_heads.rtdetr_head.RTDETRHead.predict_by_feat'
)
def rtdetr_head__predict_by_feat(
    self, cls_scores: Tensor, bbox_preds: Tensor, batch_img_metas: list[dict], rescale: bool = False
) -> tuple[Tensor, Tensor]:
    """Detections of a batch as two tensors.

    mmdeploy's for DETR heads counts queries of a batch by ``max_per_img``, which is wrong where
    that is not the number of queries.

    Args:
        self: The head.
        cls_scores: Class logits (L, N, Q, C), of which the last layer is used.
        bbox_preds: Boxes (L, N, Q, 4), cx, cy, w, h, 0..1.
        batch_img_metas: Of the first image ``img_shape``, the height and width of the input.
        rescale: Not used; boxes stay in pixels of the input.

    Returns:
        ``dets`` (N, K, 5), x1, y1, x2, y2 and score, best first, and ``labels`` (N, K), with
        K = min(max_per_img, Q * C).
    """
    # Not from the tensors: a traced number would make K change with the input.
    num = min(self.test_cfg.get('max_per_img', 300), self.num_queries * self.num_classes)
    scores, index = cls_scores[-1].sigmoid().flatten(1).topk(num, dim=1)
    query = torch.div(index, self.num_classes, rounding_mode='floor')
    boxes = box_cxcywh_to_xyxy(bbox_preds[-1]).clamp(0, 1)
    boxes = boxes.gather(1, query.unsqueeze(-1).expand(-1, -1, 4))
    size = batch_img_metas[0]['img_shape'][:2]
    if not isinstance(size, Tensor):  # of a static input
        size = boxes.new_tensor(size)
    dets = torch.cat([boxes * size.to(boxes).flip(0).repeat(2), scores.unsqueeze(-1)], dim=-1)
    return dets, index % self.num_classes


@FUNCTION_REWRITER.register_rewriter('torch.nn.functional.scaled_dot_product_attention', ir=IR.ONNX)
def scaled_dot_product_attention__onnx(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Attention without dropout.

    mmdeploy's leaves a dropout in training mode in the graph, which keeps runtimes from fusing it.

    Args:
        query: (..., L, E).
        key: (..., S, E).
        value: (..., S, D).
        attn_mask: Added to the logits, or boolean, False where a query must not see a key.
        dropout_p: Not used.
        is_causal: Refused: detectors have no use for it.
        scale: Of the logits, by default 1 / sqrt(E).

    Returns:
        (..., L, D).
    """
    if is_causal:
        raise DeployError('causal attention has no place in a detector: is_causal=True.')
    if scale is None:
        scale = float(query.shape[-1]) ** -0.5
    # The query is the smallest of all that could be scaled.
    weight = (query * scale) @ key.transpose(-2, -1)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            zeros = torch.zeros_like(attn_mask, dtype=query.dtype)
            attn_mask = zeros.masked_fill(~attn_mask, float('-inf'))
        weight = weight + attn_mask
    return weight.softmax(-1) @ value
