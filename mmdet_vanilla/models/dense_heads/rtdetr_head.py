"""RT-DETR's head: query selection, decoder, losses and post-processing.

https://arxiv.org/abs/2304.08069, section 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_overlaps
from mmdet.utils import ConfigType, InstanceList, OptConfigType, reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..layers.conv_blocks import ConvNormAct
from ..layers.denoising import (
    DenoisingQueries,
    box_cxcywh_to_xyxy,
    box_xyxy_to_cxcywh,
    make_denoising_queries,
)
from ..layers.reparam import switch_to_deploy
from ..layers.rtdetr_decoder import MLP, RTDETRDecoder, inverse_sigmoid
from ..layers.transformer_encoder import tokens_of


def generate_anchors(
    spatial_shapes: Sequence[tuple[int, int]],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    base_size: float = 0.05,
    margin: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """One anchor box at the centre of every position, in logit space.

    Args:
        spatial_shapes: (H_l, W_l) of every level.
        dtype: Type of the anchors.
        device: Device of the anchors.
        base_size: Side of the anchors of level 0, as a share of the image; doubled at each level.
        margin: Anchors with a coordinate nearer than this to 0 or 1 are not valid.

    Returns:
        Anchors (sum(H_l * W_l), 4), infinite where not valid, and their validity
        (sum(H_l * W_l), 1).
    """
    anchors = []
    for level, (h, w) in enumerate(spatial_shapes):
        y = (torch.arange(h, dtype=dtype, device=device) + 0.5) / h
        x = (torch.arange(w, dtype=dtype, device=device) + 0.5) / w
        # From the sixth level on, doubling would leave the image.
        size = torch.full((h, w), min(base_size * 2**level, 0.9), dtype=dtype, device=device)
        grid_y, grid_x = torch.meshgrid(y, x, indexing='ij')
        anchors.append(torch.stack([grid_x, grid_y, size, size], dim=-1).reshape(-1, 4))
    anchor = torch.cat(anchors)
    # A map of 50 cells has centres at exactly the margin: they must not be valid on one runtime and
    # invalid on another because one of them divides by multiplying.
    margin += 1e-6
    valid = ((anchor > margin) & (anchor < 1 - margin)).all(-1, keepdim=True)
    logits = torch.log(anchor / (1 - anchor))
    return logits.masked_fill(~valid, math.inf), valid


def _upcast(x: Tensor) -> Tensor:
    """To at least float32: half precision overflows in the costs and losses."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _name_losses(losses: dict[str, Tensor], prefixes: Sequence[str]) -> dict[str, Tensor]:
    """Scalars by name from losses (L,) and one prefix per layer."""
    return {
        f'{prefix}{name}': value
        for name, values in losses.items()
        for prefix, value in zip(prefixes, values.unbind())
    }


class _Targets(NamedTuple):
    labels: list[Tensor]  # (G_i,) of every image
    boxes: list[Tensor]  # (G_i, 4) of every image, cx, cy, w, h, 0..1 across the padded input


class RTDETROutputs(NamedTuple):
    """What the head predicts in training; ``[:2]`` is what it predicts in evaluation."""

    cls_scores: Tensor  # (L, N, Q, C) logits of every decoder layer
    bbox_preds: Tensor  # (L, N, Q, 4) cx, cy, w, h, 0..1
    enc_cls_scores: Tensor  # (N, Q, C) of the selected encoder tokens
    enc_bbox_preds: Tensor  # (N, Q, 4)
    dn_cls_scores: Tensor | None  # (L, N, D, C) of the denoising queries
    dn_bbox_preds: Tensor | None  # (L, N, D, 4)
    dn_queries: DenoisingQueries | None


@MODELS.register_module()
class RTDETRHead(BaseDenseHead):
    """Selects the best encoder tokens as queries and decodes them.

    Boxes are normalised by the input as the network sees it, padding included
    (``batch_input_shape``), and mapped back to the image from there.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of every level. RT-DETR fills it in from the neck.
        embed_dims: Channels of a query.
        num_queries: Number of queries, and of encoder tokens selected for them; fewer where the
            feature maps have fewer positions.
        num_decoder_layers: Decoder layers.
        eval_idx: Decoder layer whose predictions are used in evaluation.
        num_heads: Attention heads.
        feedforward_channels: Hidden channels of the feed-forward networks.
        dropout: Dropout probability.
        num_points: Sampling points per level, one number or one per level.
        offset_scale: Share of the box that the sampling offsets span.
        sampling_method: ``'bilinear'``, or ``'discrete'`` (RT-DETRv2).
        act_cfg: Config of the decoder's activation.
        norm_cfg: Config of the normalisation in the input projections.
        learnt_init_query: Whether the queries' contents are learnt instead of taken from the
            encoder tokens.
        xavier_init: Whether the decoder's feed-forward networks and the input projections start
            with Xavier's initialisation (RT-DETRv2) instead of PyTorch's.
        num_denoising: Number of denoising queries to aim at; 0 for none.
        label_noise_ratio: Of the denoising queries.
        box_noise_scale: Of the denoising queries.
        loss_cls: Config of the classification loss, which takes labels and IoU.
        loss_bbox: Config of the loss on normalised cx, cy, w, h.
        loss_iou: Config of the loss on normalised x1, y1, x2, y2.
        deploy: Whether to build the fused form.
        train_cfg: ``assigner``: config of the matcher.
        test_cfg: ``max_per_img``: number of detections, 300 by default.
        init_cfg: mmengine's initialisation config. By default the layers are initialised as the
            authors do.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        embed_dims: int = 256,
        num_queries: int = 300,
        num_decoder_layers: int = 6,
        eval_idx: int = -1,
        num_heads: int = 8,
        feedforward_channels: int = 1024,
        dropout: float = 0.0,
        num_points: int | Sequence[int] = 4,
        offset_scale: float = 0.5,
        sampling_method: str = 'bilinear',
        act_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        learnt_init_query: bool = False,
        xavier_init: bool = False,
        num_denoising: int = 100,
        label_noise_ratio: float = 0.5,
        box_noise_scale: float = 1.0,
        loss_cls: ConfigType = dict(type='RTDETRVarifocalLoss', loss_weight=1.0),
        loss_bbox: ConfigType = dict(type='L1Loss', loss_weight=5.0),
        loss_iou: ConfigType = dict(type='GIoULoss', eps=1e-9, loss_weight=2.0),
        deploy: bool = False,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        for name, value, least in (
            ('num_classes', num_classes, 1),
            ('num_queries', num_queries, 1),
            ('num_denoising', num_denoising, 0),
        ):
            if value < least:
                raise ValueError(f'{name}={value}: expected at least {least}.')
        self.num_classes = num_classes
        self.num_queries = num_queries
        self.num_denoising = num_denoising
        self.label_noise_ratio = label_noise_ratio
        self.box_noise_scale = box_noise_scale
        self.learnt_init_query = learnt_init_query
        self.test_cfg = test_cfg or {}
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.loss_iou = MODELS.build(loss_iou)
        assigner = (train_cfg or {}).get('assigner') or dict(type='BatchedHungarianMatcher')
        self.matcher = TASK_UTILS.build(assigner)

        self.input_proj = nn.ModuleList(
            ConvNormAct(channels, embed_dims, 1, norm_cfg=norm_cfg, deploy=deploy)
            for channels in in_channels
        )
        self.decoder = RTDETRDecoder(
            num_decoder_layers,
            eval_idx,
            channels=embed_dims,
            num_heads=num_heads,
            feedforward_channels=feedforward_channels,
            dropout=dropout,
            act_cfg=act_cfg,
            attn_cfg=dict(
                num_levels=len(in_channels),
                num_points=num_points,
                offset_scale=offset_scale,
                method=sampling_method,
            ),
        )
        if num_denoising:
            # The last row stands for "no object" and stays zero.
            self.denoising_class_embed = nn.Embedding(
                num_classes + 1, embed_dims, padding_idx=num_classes
            )
        if learnt_init_query:
            self.tgt_embed = nn.Embedding(num_queries, embed_dims)
        self.query_pos_head = MLP(4, 2 * embed_dims, embed_dims, 2, act_cfg)
        self.enc_output = nn.Sequential()
        self.enc_output.add_module('proj', nn.Linear(embed_dims, embed_dims))
        self.enc_output.add_module('norm', nn.LayerNorm(embed_dims))
        self.enc_score_head = nn.Linear(embed_dims, num_classes)
        self.enc_bbox_head = MLP(embed_dims, embed_dims, 4, 3, act_cfg)
        layers = range(num_decoder_layers)
        self.dec_score_head = nn.ModuleList(nn.Linear(embed_dims, num_classes) for _ in layers)
        self.dec_bbox_head = nn.ModuleList(
            MLP(embed_dims, embed_dims, 4, 3, act_cfg) for _ in layers
        )
        self._reset_parameters(xavier_init)

    def _reset_parameters(self, xavier_init: bool) -> None:
        """The authors' initialisation where it is not PyTorch's."""
        prior = 0.01
        for head in (self.enc_score_head, *self.dec_score_head):
            nn.init.constant_(head.bias, -math.log((1 - prior) / prior))
        for head in (self.enc_bbox_head, *self.dec_bbox_head):
            nn.init.zeros_(head.layers[-1].weight)
            nn.init.zeros_(head.layers[-1].bias)
        nn.init.xavier_uniform_(self.enc_output.proj.weight)
        for layer in self.query_pos_head.layers:
            nn.init.xavier_uniform_(layer.weight)
        if self.learnt_init_query:
            nn.init.xavier_uniform_(self.tgt_embed.weight)
        if xavier_init:
            projections = [proj.conv for proj in self.input_proj]
            linears = [fc for layer in self.decoder.layers for fc in (layer.linear1, layer.linear2)]
            for layer in (*projections, *linears):
                nn.init.xavier_uniform_(layer.weight)

    def switch_to_deploy(self) -> None:
        """Folds the normalisation of the input projections, in place."""
        for proj in self.input_proj:
            switch_to_deploy(proj)

    def forward(self, x: Sequence[Tensor], targets: _Targets | None = None) -> tuple:
        """Predicts boxes.

        Args:
            x: Feature maps (N, in_channels[i], H_i, W_i).
            targets: Objects to make denoising queries from, in training.

        Returns:
            :class:`RTDETROutputs` in training; in evaluation class logits (1, N, Q, C) and boxes
            (1, N, Q, 4), cx, cy, w, h, 0..1, of the layer ``eval_idx``.
        """
        feats = [proj(feat) for proj, feat in zip(self.input_proj, x)]
        spatial_shapes = [tuple(feat.shape[-2:]) for feat in feats]
        memory = torch.cat([tokens_of(feat) for feat in feats], dim=1)
        query, reference, enc_cls, enc_boxes = self._select_queries(memory, spatial_shapes)

        dn = None
        if targets is not None and self.num_denoising:
            dn = make_denoising_queries(
                *targets,
                num_classes=self.num_classes,
                num_queries=query.shape[1],
                num_denoising=self.num_denoising,
                label_noise_ratio=self.label_noise_ratio,
                box_noise_scale=self.box_noise_scale,
            )
        num_dn = 0
        if dn is not None:
            num_dn = dn.labels.shape[1]
            content = self.denoising_class_embed(dn.labels)
            query = torch.cat([content.to(query.dtype), query], dim=1)
            dn_reference = inverse_sigmoid(dn.boxes).to(reference.dtype)
            reference = torch.cat([dn_reference, reference], dim=1)

        cls_scores, bbox_preds = self.decoder(
            query,
            reference,
            memory,
            spatial_shapes,
            self.dec_score_head,
            self.dec_bbox_head,
            self.query_pos_head,
            attn_mask=None if dn is None else dn.attn_mask,
        )
        if not self.training:
            return cls_scores, bbox_preds
        dn_cls, cls_scores = cls_scores.split([num_dn, query.shape[1] - num_dn], dim=2)
        dn_boxes, bbox_preds = bbox_preds.split([num_dn, query.shape[1] - num_dn], dim=2)
        return RTDETROutputs(cls_scores, bbox_preds, enc_cls, enc_boxes, dn_cls, dn_boxes, dn)

    def _select_queries(
        self, memory: Tensor, spatial_shapes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """IoU-aware query selection.

        Returns:
            The queries' contents (N, Q, C), their initial boxes before the sigmoid (N, Q, 4), both
            without gradient, and the class logits and boxes of the selected tokens.
        """
        # Half precision is too coarse for positions.
        dtype = torch.promote_types(memory.dtype, torch.float32)
        anchors, valid = generate_anchors(spatial_shapes, dtype, memory.device)
        memory = memory * valid.to(memory.dtype)
        # Only selected tokens have a gradient, and are encoded once more for it below.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.training):
            tokens = self.enc_output(memory)
            scores = self.enc_score_head(tokens)
        num_queries = min(self.num_queries, tokens.shape[1])
        index = scores.amax(-1).topk(num_queries, dim=1).indices.unsqueeze(-1)

        def select(values: Tensor) -> Tensor:
            return values.gather(1, index.expand(-1, -1, values.shape[-1]))

        if self.training:
            selected = self.enc_output(select(memory))
            selected_scores = self.enc_score_head(selected)
        else:
            selected, selected_scores = select(tokens), select(scores)
        anchors = select(anchors.expand(memory.shape[0], -1, -1))
        reference = self.enc_bbox_head(selected) + anchors
        if self.learnt_init_query:
            query = self.tgt_embed.weight[:num_queries].expand(memory.shape[0], -1, -1)
        else:
            query = selected.detach()
        return query, reference.detach(), selected_scores, reference.sigmoid()

    def loss(self, x: Sequence[Tensor], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Predicts and computes the losses.

        Args:
            x: Feature maps (N, in_channels[i], H_i, W_i).
            batch_data_samples: Data samples with ground truth, boxes in input pixels.

        Returns:
            Losses by name: ``loss_cls``, ``loss_bbox`` and ``loss_iou`` of the last decoder layer;
            with the prefix ``d<i>.`` of the others, ``enc_`` of the encoder, ``dn_`` of the
            denoising queries.
        """
        targets = self._get_targets(batch_data_samples)
        return self.loss_by_feat(self(x, targets), targets)

    def _get_targets(self, batch_data_samples: SampleList) -> _Targets:
        labels, boxes = [], []
        for sample in batch_data_samples:
            height, width = sample.metainfo['batch_input_shape']
            gt = sample.gt_instances
            scale = gt.bboxes.new_tensor([width, height, width, height])
            labels.append(gt.labels)
            boxes.append(box_xyxy_to_cxcywh(gt.bboxes / scale))
        return _Targets(labels, boxes)

    def loss_by_feat(self, outs: RTDETROutputs, targets: _Targets) -> dict[str, Tensor]:
        """Losses of the decoder layers, the encoder and the denoising queries.

        Args:
            outs: Predictions of :meth:`forward` in training.
            targets: Objects of every image.

        Returns:
            Losses by name.
        """
        num_objects = outs.cls_scores.new_tensor(float(sum(map(len, targets.labels))))
        avg_factor = reduce_mean(num_objects.float()).clamp(min=1)

        # The encoder's predictions are one more layer to match and to train.
        logits = _upcast(torch.cat([outs.cls_scores, outs.enc_cls_scores[None]]))
        boxes = _upcast(torch.cat([outs.bbox_preds, outs.enc_bbox_preds[None]]))
        matches = self.matcher(logits, boxes, *targets)
        losses = self._layer_losses(logits, boxes, *matches, targets, avg_factor)
        num_layers = len(outs.cls_scores)
        prefixes = [*(f'd{i}.' for i in range(num_layers - 1)), '', 'enc_']
        named = _name_losses(losses, prefixes)

        if self.num_denoising:
            losses = self._denoising_losses(outs, targets, avg_factor)
            named.update(_name_losses(losses, [f'{prefix}dn_' for prefix in prefixes[:-1]]))
        return named

    def _denoising_losses(
        self, outs: RTDETROutputs, targets: _Targets, avg_factor: Tensor
    ) -> dict[str, Tensor]:
        dn = outs.dn_queries
        num_layers = len(outs.cls_scores)
        if dn is None:
            # Where a process has no object in its whole batch, every parameter still needs a
            # gradient, or distributed training waits for it for ever.
            zero = self.denoising_class_embed.weight.sum().expand(num_layers) * 0
            return dict(loss_cls=zero, loss_bbox=zero, loss_iou=zero)
        layer = torch.arange(num_layers, device=dn.positive.device)[:, None]
        query_index = (layer * dn.labels.numel() + dn.positive).flatten()
        object_index = dn.target.repeat(num_layers)
        return self._layer_losses(
            _upcast(outs.dn_cls_scores),
            _upcast(outs.dn_bbox_preds),
            query_index,
            object_index,
            targets,
            avg_factor * dn.num_groups,
        )

    def _layer_losses(
        self,
        logits: Tensor,
        boxes: Tensor,
        query_index: Tensor,
        object_index: Tensor,
        targets: _Targets,
        avg_factor: Tensor,
    ) -> dict[str, Tensor]:
        """Losses of all layers at once.

        Args:
            logits: (L, N, Q, C).
            boxes: (L, N, Q, 4), cx, cy, w, h, 0..1.
            query_index: Index (M,) into the flattened L * N * Q predictions of every positive.
            object_index: Index (M,) of its object in the concatenated objects of the batch.
            targets: Objects of every image.
            avg_factor: Divides the sums.

        Returns:
            Three losses (L,) by name.
        """
        num_layers = len(logits)
        logits = logits.flatten(0, 2)
        labels = torch.cat(targets.labels)[object_index]
        target = torch.cat(targets.boxes)[object_index]
        target_corners = box_cxcywh_to_xyxy(target)
        pred = boxes.flatten(0, 2)[query_index]
        corners = box_cxcywh_to_xyxy(pred)

        all_labels = labels.new_full((len(logits),), self.num_classes)
        all_labels[query_index] = labels
        quality = logits.new_zeros(len(logits))
        quality[query_index] = bbox_overlaps(
            corners.detach(), target_corners, is_aligned=True, eps=1e-9
        ).to(quality.dtype)
        loss_cls = self.loss_cls(logits, (all_labels, quality), reduction_override='none')
        loss_cls = loss_cls.reshape(num_layers, -1).sum(1)
        if len(query_index) == 0:
            # Keeps the box branches in the graph, with a gradient of zero.
            loss_bbox = loss_iou = boxes.flatten(1).sum(1) * 0
        else:
            layer = torch.div(query_index, len(logits) // num_layers, rounding_mode='floor')
            zeros = logits.new_zeros(num_layers)
            loss_bbox = self.loss_bbox(pred, target, reduction_override='none').sum(-1)
            loss_bbox = zeros.index_add(0, layer, loss_bbox)
            loss_iou = self.loss_iou(corners, target_corners, reduction_override='none')
            loss_iou = zeros.index_add(0, layer, loss_iou)
        losses = dict(loss_cls=loss_cls, loss_bbox=loss_bbox, loss_iou=loss_iou)
        return {name: loss / avg_factor for name, loss in losses.items()}

    def predict_by_feat(
        self,
        cls_scores: Tensor,
        bbox_preds: Tensor,
        batch_img_metas: list[dict],
        rescale: bool = True,
    ) -> InstanceList:
        """Turns predictions into detections, without non-maximum suppression.

        Args:
            cls_scores: Class logits (L, N, Q, C), of which the last layer is used.
            bbox_preds: Boxes (L, N, Q, 4), cx, cy, w, h, 0..1.
            batch_img_metas: Of every image: ``img_shape``, ``batch_input_shape``, and with
                ``rescale`` also ``scale_factor``.
            rescale: Whether boxes are in pixels of the original image instead of the input.

        Returns:
            Of every image ``bboxes`` (K, 4), x1, y1, x2, y2, ``scores`` (K,), best first, and
            ``labels`` (K,), with K = min(max_per_img, Q * C).
        """
        scores = cls_scores[-1].sigmoid().flatten(1)
        num = min(self.test_cfg.get('max_per_img', 300), scores.shape[1])
        scores, index = scores.topk(num, dim=1)
        boxes = box_cxcywh_to_xyxy(bbox_preds[-1])
        query = torch.div(index, self.num_classes, rounding_mode='floor')
        boxes = boxes.gather(1, query.unsqueeze(-1).expand(-1, -1, 4))
        labels = index % self.num_classes
        results = []
        for i, meta in enumerate(batch_img_metas):
            result = InstanceData(bboxes=self._to_image(boxes[i], meta, rescale))
            result.scores, result.labels = scores[i], labels[i]
            results.append(result)
        return results

    @staticmethod
    def _to_image(boxes: Tensor, meta: dict, rescale: bool) -> Tensor:
        """Maps corners (K, 4), 0..1 across the padded input, to the image, and clips them."""
        input_height, input_width = meta['batch_input_shape']
        height, width = meta['img_shape'][:2]
        boxes = boxes * boxes.new_tensor([input_width, input_height] * 2)
        limit = boxes.new_tensor([width, height] * 2)
        boxes = torch.minimum(boxes.clamp(min=0), limit)
        if rescale:
            boxes = boxes / boxes.new_tensor(tuple(meta['scale_factor']) * 2)
        return boxes
