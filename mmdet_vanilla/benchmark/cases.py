"""What is measured: each case builds, from a few words, a function to call again and again."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
EXPORTED = ('onnxruntime', 'openvino', 'openvino, bfloat16')
RUNTIMES = (
    'training form',
    'fused',
    'fused, channels-last',
    'fused, compiled',
    'fused, bfloat16',
    *EXPORTED,
    TRANSFORMERS,
)
CHANNELS_LAST = ('fused, channels-last', 'fused, compiled', 'fused, bfloat16')
IMPLEMENTATIONS = ('ours', 'ours, channels-last', TRANSFORMERS)


def build_model(
    config: str, options: Sequence[tuple[str, object]] = (), same_weights: bool = True
) -> nn.Module:
    """Builds a detector with random weights, always the same ones.

    Args:
        config: Path of the config.
        options: Overrides of the config, dotted keys and values.
        same_weights: Whether a config that has a peer takes its weights.

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


class Case:
    """Builds a function to measure."""

    def build(self) -> Run:
        """Prepares everything and returns the function to time."""
        raise NotImplementedError

    def build_alone(self) -> Run:
        """The same without building the peer on the way, whose memory is not ours."""
        return dataclasses.replace(self, same_weights=False).build()


@dataclass(frozen=True)
class Inference(Case):
    """A forward pass.

    Attributes:
        config: Path of the config of a detector.
        runtime: One of :data:`RUNTIMES`.
        batch: Images at once.
        size: Side of the square images.
        backbone_only: Whether only the backbone runs.
        options: Overrides of the config, dotted keys and values.
        same_weights: Whether a config that has a peer takes its weights.
    """

    config: str
    runtime: str = 'fused'
    batch: int = 1
    size: int = 640
    backbone_only: bool = False
    options: tuple[tuple[str, object], ...] = ()
    same_weights: bool = True

    def images(self) -> Tensor:
        """Random images, always the same ones."""
        generator = torch.Generator().manual_seed(0)
        return torch.rand(self.batch, 3, self.size, self.size, generator=generator)

    def network(self) -> nn.Module:
        """What maps images to outputs, in the training form."""
        model = build_model(self.config, self.options, self.same_weights)
        return model.backbone if self.backbone_only else Detections(model)

    def build(self) -> Run:
        """Prepares everything and returns the function to time, which returns the outputs."""
        if self.runtime not in RUNTIMES:
            raise UserError(f'runtime {self.runtime!r}: expected one of {", ".join(RUNTIMES)}.')
        if self.runtime == TRANSFORMERS:
            images, peer = self.images(), build_peer(self.config).model
            return _inference(lambda: peer(pixel_values=images))
        network, images = self.prepare()
        if self.runtime in EXPORTED:
            return self._exported(network, images)
        if self.runtime == 'fused, compiled':
            network = torch.compile(network)
        if self.runtime == 'fused, bfloat16':
            network = torch.autocast('cpu', torch.bfloat16)(network)
        return _inference(lambda: network(images))

    def prepare(self) -> tuple[nn.Module, Tensor]:
        """The network and the images in the form and memory format of a runtime of PyTorch's."""
        network, images = self.network(), self.images()
        if self.runtime != 'training form':
            switch_to_deploy(network)
        if self.runtime in CHANNELS_LAST:
            network.to(memory_format=torch.channels_last)
            images = images.contiguous(memory_format=torch.channels_last)
        if self.runtime == 'fused, bfloat16' and self.backbone_only:
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
            return exported.load(path, self.runtime, images)


def random_samples(
    batch: int, objects: int, size: int, num_classes: int, seed: int = 0
) -> list[DetDataSample]:
    """Ground truth of random objects.

    Args:
        batch: Number of images.
        objects: Objects of every image.
        size: Side of the square images.
        num_classes: Number of classes.
        seed: Of the random numbers.

    Returns:
        A data sample per image, boxes of a twentieth to a third of the side in input pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for _ in range(batch):
        sides = size * (0.05 + 0.28 * torch.rand(objects, 2, generator=generator))
        low = torch.rand(objects, 2, generator=generator) * (size - sides)
        labels = torch.randint(num_classes, (objects,), generator=generator)
        shape = (size, size)
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


@dataclass(frozen=True)
class TrainingStep(Case):
    """A training step: forward, matching, losses, backward, clipping, optimizer.

    Attributes:
        config: Path of the config of a detector.
        implementation: One of :data:`IMPLEMENTATIONS`.
        batch: Images at once.
        objects: Objects of every image.
        size: Side of the square images.
        options: Overrides of the config, dotted keys and values.
        same_weights: Whether a config that has a peer takes its weights.
    """

    config: str
    implementation: str = 'ours'
    batch: int = 2
    objects: int = 7
    size: int = 640
    options: tuple[tuple[str, object], ...] = ()
    same_weights: bool = True

    def model(self) -> nn.Module:
        """The detector in training mode."""
        if self.implementation not in IMPLEMENTATIONS:
            known = ', '.join(IMPLEMENTATIONS)
            raise UserError(f'implementation {self.implementation!r}: expected one of {known}.')
        if self.implementation == TRANSFORMERS:
            return build_peer(self.config).train()
        return build_model(self.config, self.options, self.same_weights).train()

    def build(self) -> Run:
        """Prepares everything and returns the function to time, which returns the loss."""
        model = self.model()
        images, samples = self.batch_of(model)
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

    def batch_of(self, model: nn.Module) -> tuple[Tensor, list[DetDataSample]]:
        """Images and ground truth for a model, which is brought into their memory format."""
        images = Inference(self.config, batch=self.batch, size=self.size).images()
        if self.implementation == 'ours, channels-last':
            model.to(memory_format=torch.channels_last)
            images = images.contiguous(memory_format=torch.channels_last)
        num_classes = _num_classes(model)
        return images, random_samples(self.batch, self.objects, self.size, num_classes)


def _num_classes(model: nn.Module) -> int:
    head = getattr(model, 'bbox_head', None)
    return model.model.config.num_labels if head is None else head.num_classes


def _inference(function: Run) -> Run:
    return torch.inference_mode()(function)
