"""Logs the memory of a process that trains without a GPU."""

from __future__ import annotations

from mmdet.registry import HOOKS
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet_vanilla.utils.host_memory import host_memory


@HOOKS.register_module()
class HostMemoryHook(Hook):
    """Adds ``host_memory_gib`` to the log lines of training on a CPU, on Linux.

    mmengine logs ``memory`` (MiB) only of a GPU. Memory of the data loader's workers is not
    contained.
    """

    # Before LoggerHook.
    priority = 'NORMAL'

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Records the memory."""
        if get_device() != 'cpu':
            return
        memory = host_memory()
        if memory is not None:
            runner.message_hub.update_scalar('train/host_memory_gib', memory.now / 2**30)
