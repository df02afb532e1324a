"""What is measured: each case builds, from a few words, a function to call again and again."""

from __future__ import annotations

import dataclasses
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_vanilla.models import switch_to_deploy
from mmdet_vanilla.utils.errors import UserError
from mmdet_vanilla.utils.preflight import load_config
from mmdet_vanilla.utils.timing import Run

from .peers import build_peer, has_peer, load_peers_weights

TRANSFORMERS = 'transformers'
PEERS = (TRANSFORMERS, 'transformers, channels-last')
EXPORTED = ('onnxruntime', 'openvino', 'openvino, bfloat16')
RUNTIMES = (
    'training form',
    'fused',
    'fused, NCHW',
    'fused, compiled',
    'fused, bfloat16',
    *EXPORTED,
    *PEERS,
)
IMPLEMENTATIONS = ('ours', 'ours, NCHW', *PEERS)


def build_model(
    config: str, options: Sequence[tuple[str, object]] = (), same_weights: bool = True
) -> nn.Module:
    """Builds a detector with random weights, always the same ones.

    Args:
        config: Path of the config.
        options: Overrides of the config, dotted keys and values.
        same_weights: Whether a config that has a peer takes its weights, unless it has overrides.

    Returns:
        The detector in evaluation mode, in the training form.
    """
    cfg = load_config(config, dict(options)).model
    for part in ('backbone', 'neck', 'bbox_head'):
        cfg.get(part, {}).pop('init_cfg', None)
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(cfg))
    if same_weights and has_peer(config) and not options:
        load_peers_weights(model, build_peer(config))
    return model.eval()


class Detections(nn.Module):
    """From images (N, 3, H, W) to boxes with scores (N, K, 5) and labels (N, K)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detects."""
        size = tuple(images.shape[-2:])
        metas = [dict(img_shape=size, batch_input_shape=size)] * len(images)
        head = self.model.bbox_head
        outputs = head(self.model.extract_feat(images))
        results = head.predict_by_feat(*outputs, metas, rescale=False)
        boxes = [torch.cat([r.bboxes, r.scores[:, None]], 1) for r in results]
        return torch.stack(boxes), torch.stack([r.labels for r in results])


@dataclass(frozen=True)
class Case(ABC):
    """Builds a function to measure.

    Attributes:
        config: Path of the config of a detector.
        form: Of the detector, or of its peer; each kind of case has its own.
        batch: Images at once.
        size: Side of the square images.
        options: Overrides of the config, dotted keys and values.
        same_weights: Whether a config that has a peer takes its weights.
    """

    config: str
    form: str
    batch: int = 1
    size: int = 640
    options: tuple[tuple[str, object], ...] = ()
    same_weights: bool = True

    forms: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        if self.form not in self.forms:
            raise UserError(f'form {self.form!r}: expected one of {", ".join(self.forms)}.')

    def images(self) -> Tensor:
        """Random images, always the same ones."""
        generator = torch.Generator().manual_seed(0)
        return torch.rand(self.batch, 3, self.size, self.size, generator=generator)

    def model(self) -> nn.Module:
        """The detector or its peer, in the training form and the form's memory format."""
        if self.form in PEERS:
            model = build_peer(self.config)
        else:
            model = build_model(self.config, self.options, self.same_weights)
        if 'channels-last' in self.form:
            model.to(memory_format=torch.channels_last)
        elif 'NCHW' in self.form:
            model.to(memory_format=torch.contiguous_format)
        return model

    @abstractmethod
    def build(self) -> Run:
        """Prepares everything and returns the function to time."""

    def build_alone(self) -> Run:
        """The same without building the peer on the way, whose memory is not ours."""
        return dataclasses.replace(self, same_weights=False).build()


@dataclass(frozen=True)
class Inference(Case):
    """A forward pass in one of :data:`RUNTIMES`, laid out as the config says where none is named.

    Attributes:
        backbone_only: Whether only the backbone runs.
    """

    form: str = 'fused'
    backbone_only: bool = False

    forms = RUNTIMES

    def network(self) -> nn.Module:
        """What maps images to outputs, in the training form."""
        model = self.model()
        return model.backbone if self.backbone_only else Detections(model)

    def build(self) -> Run:
        """Prepares everything and returns the function to time, which returns the outputs."""
        if self.form in PEERS:
            images, peer = self.images(), self.model().model
            return _inference(lambda: peer(pixel_values=images))
        network, images = self.prepare()
        if self.form in EXPORTED:
            return self._exported(network, images)
        if self.form == 'fused, compiled':
            network = torch.compile(network)
        if self.form == 'fused, bfloat16':
            network = torch.autocast('cpu', torch.bfloat16)(network)
        return _inference(lambda: network(images))

    def prepare(self) -> tuple[nn.Module, Tensor]:
        """The network and the images in a form of PyTorch's."""
        network, images = self.network(), self.images()
        if self.form != 'training form':
            switch_to_deploy(network)
        if self.form == 'fused, bfloat16' and self.backbone_only:
            network, images = network.to(torch.bfloat16), images.to(torch.bfloat16)
        return network, images

    def _exported(self, network: nn.Module, images: Tensor) -> Run:
        from . import exported

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'model.onnx'
            if self.backbone_only:
                exported.export_backbone(network, images, path)
            else:
                exported.export_detector(network.model, images, path)
            # The weights are read before the folder is gone.
            return exported.load(path, self.form, images)


@dataclass(frozen=True)
class TrainingStep(Case):
    """Forward, matching, losses, backward, clipping, optimizer, of :data:`IMPLEMENTATIONS`.

    Attributes:
        objects: Objects of every image.
    """

    form: str = 'ours'
    batch: int = 2
    objects: int = 7

    forms = IMPLEMENTATIONS

    def model(self) -> nn.Module:
        """The same in training mode."""
        return super().model().train()

    def build(self) -> Run:
        """Prepares everything and returns the function to time, which returns the loss."""
        model = self.model()
        images, samples = self.images(), self.samples(_num_classes(model))
        params = [param for param in model.parameters() if param.requires_grad]
        optimizer = torch.optim.AdamW(params, lr=1e-4, weight_decay=1e-4)

        def step() -> Tensor:
            loss, _ = model.parse_losses(model.loss(images, samples))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, 0.1)
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach()

        return step

    def samples(self, num_classes: int) -> list[DetDataSample]:
        """Ground truth of random objects, always the same.

        Args:
            num_classes: Number of classes.

        Returns:
            A data sample per image, boxes of a twentieth to a third of the side in input pixels.
        """
        generator = torch.Generator().manual_seed(0)
        shape = (self.size, self.size)
        samples = []
        for _ in range(self.batch):
            sides = self.size * (0.05 + 0.28 * torch.rand(self.objects, 2, generator=generator))
            low = torch.rand(self.objects, 2, generator=generator) * (self.size - sides)
            labels = torch.randint(num_classes, (self.objects,), generator=generator)
            sample = DetDataSample(
                metainfo=dict(
                    img_shape=shape,
                    batch_input_shape=shape,
                    ori_shape=shape,
                    scale_factor=(1.0, 1.0),
                )
            )
            boxes = torch.cat([low, low + sides], dim=1)
            sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
            samples.append(sample)
        return samples


def _num_classes(model: nn.Module) -> int:
    head = getattr(model, 'bbox_head', None)
    return model.model.config.num_labels if head is None else head.num_classes


def _inference(function: Run) -> Run:
    return torch.inference_mode()(function)
