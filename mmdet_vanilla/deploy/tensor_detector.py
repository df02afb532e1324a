"""A detector as one function from tensors to tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .rewriters import rtdetr_head__predict_by_feat


class TensorDetector(nn.Module):
    """What ``torch.compile``, ``torch.export`` and CUDA graphs want of a detector.

    It computes what an exported file computes. ``torch.compile(..., fullgraph=True)`` takes it
    whole.

    Args:
        model: A detector with an :class:`RTDETRHead`, in evaluation mode, best fused.

    Example:
        >>> fast = torch.compile(TensorDetector(exporter.fuse(model)), fullgraph=True)
        >>> dets, labels = fast(images)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detects objects.

        Args:
            images: (N, 3, H, W), normalised.

        Returns:
            ``dets`` (N, K, 5), x1, y1, x2, y2 in pixels of the input and score, best first, and
            ``labels`` (N, K).
        """
        head = self.model.bbox_head
        # As tensors, since numbers would be taken for those of this input.
        size = torch.stack([torch.scalar_tensor(side) for side in images.shape[-2:]])
        outs = head(self.model.extract_feat(images))
        return rtdetr_head__predict_by_feat(head, *outs, [dict(img_shape=size)])
