"""Where the time goes, by part of the detector."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from .cases import Detections


class Stopwatch:
    """Seconds by part; what runs inside a part counts for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._parts: list[str] = []
        self._since = 0.0

    def lap(self) -> None:
        """Books the time since the last call for the part that has just run."""
        now = time.perf_counter()
        if self._parts:
            self.seconds[self._parts[-1]] += now - self._since
        self._since = now

    def enter(self, part: str) -> None:
        """Starts a part inside of the present one."""
        self.lap()
        self._parts.append(part)

    def leave(self) -> None:
        """Ends the present part."""
        self.lap()
        self._parts.pop()

    def rename(self, part: str) -> None:
        """Ends the present part and starts another one in its place."""
        self.lap()
        self._parts[-1] = part


@contextlib.contextmanager
def watched(model: nn.Module, watch: Stopwatch) -> Iterator[None]:
    """Times the parts of a detector of this package while inside.

    Args:
        model: The detector.
        watch: Gets the seconds of backbone, neck, head, decoder, sampling, matching, losses and
            postprocessing.
    """
    head = model.bbox_head
    parts = {'backbone': [model.backbone], 'neck': [model.neck], 'head': [head]}
    parts['decoder'] = [head.decoder]
    parts['sampling'] = [layer.cross_attn for layer in head.decoder.layers]
    handles = []
    for part, modules in parts.items():
        for module in modules:
            handles += [
                module.register_forward_pre_hook(lambda *_, part=part: watch.enter(part)),
                module.register_forward_hook(lambda *_: watch.leave()),
            ]
    methods = dict(loss_by_feat='losses', predict_by_feat='postprocessing', matcher='matching')
    replaced = {name: vars(head).get(name) for name in methods}
    for name, part in methods.items():
        vars(head)[name] = _timed(getattr(head, name), part, watch)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for name, original in replaced.items():
            del vars(head)[name]
            if original is not None:
                setattr(head, name, original)


def _timed(function: Callable, part: str, watch: Stopwatch) -> Callable:
    def call(*args, **kwargs):
        watch.enter(part)
        try:
            return function(*args, **kwargs)
        finally:
            watch.leave()

    return call


def profile_inference(detector: Detections, images: Tensor, rounds: int = 5) -> dict[str, float]:
    """Seconds of one forward pass by part, means over the rounds.

    Args:
        detector: In evaluation mode.
        images: (N, 3, H, W).
        rounds: Calls after the first one.
    """
    watch = Stopwatch()
    with torch.inference_mode():
        detector(images)
        with watched(detector.model, watch):
            for _ in range(rounds):
                watch.enter('other')
                detector(images)
                watch.leave()
    return {part: seconds / rounds for part, seconds in watch.seconds.items()}


def _mark_backward(tensors: Iterable[Tensor], watch: Stopwatch, part: str) -> None:
    """Starts ``part`` once the backward pass reaches the first of the tensors.

    Of two operations that are ready, autograd runs the later one first, so that by then it has run
    all that came after the tensors.
    """
    started = False

    def arrived(_: Tensor) -> None:
        nonlocal started
        if not started:
            started = True
            watch.rename(part)

    for tensor in tensors:
        if tensor.requires_grad:
            tensor.register_hook(arrived)


def profile_training(
    model: nn.Module,
    images: Tensor,
    samples: list,
    rounds: int = 3,
) -> dict[str, float]:
    """Seconds of one training step by part, means over the rounds.

    The backward pass runs through the parts in reverse, and a part ends when the gradients of its
    inputs are there: of the losses, the head with the decoder, the neck, the backbone.

    Args:
        model: A detector of this package in training mode.
        images: (N, 3, H, W).
        samples: Data samples with ground truth.
        rounds: Steps after the first one.
    """
    params = [param for param in model.parameters() if param.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=1e-4, weight_decay=1e-4)
    watch = Stopwatch()

    def outputs_of(module: nn.Module, part: str):
        return module.register_forward_hook(
            lambda _, __, outputs: _mark_backward(
                [out for out in outputs if isinstance(out, Tensor)], watch, part
            )
        )

    def step() -> None:
        watch.enter('other')
        loss, _ = model.parse_losses(model.loss(images, samples))
        watch.rename('losses, backward')
        loss.backward()
        watch.rename('optimizer')
        torch.nn.utils.clip_grad_norm_(params, 0.1)
        optimizer.step()
        optimizer.zero_grad()
        watch.leave()

    handles = [
        outputs_of(model.bbox_head, 'head and decoder, backward'),
        outputs_of(model.neck, 'neck, backward'),
        outputs_of(model.backbone, 'backbone, backward'),
    ]
    try:
        with watched(model, watch):
            for steps in range(rounds + 1):
                if steps == 1:
                    watch.seconds.clear()  # the first step allocates
                step()
    finally:
        for handle in handles:
            handle.remove()
    return {part: seconds / rounds for part, seconds in watch.seconds.items()}


def shares(seconds: dict[str, float]) -> list[tuple[str, float, float]]:
    """Parts with milliseconds and their share of the sum, the largest first."""
    total = sum(seconds.values())
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return [(part, value * 1e3, value / total) for part, value in ordered]
