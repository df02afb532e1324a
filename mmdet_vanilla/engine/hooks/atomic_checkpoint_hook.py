"""Checkpoints that a crash cannot spoil."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmdet_vanilla.utils.atomic import PART, atomic_path, write_atomically
from mmdet_vanilla.utils.checkpoint import latest_checkpoint, read_checkpoint, write_checkpoint
from mmdet_vanilla.utils.errors import UserError

from .exact_resume_hook import VALIDATED


class CheckpointWriteError(UserError, OSError):
    """A checkpoint could not be written."""


_SAFE = '.safetensors'


def _safe_path(path: str) -> str:
    return os.path.splitext(path)[0] + _SAFE


class _LateRemoval:
    """A file backend that removes files only when told to."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._outdated = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._outdated[path] = self._backend.remove

    def rmtree(self, path: str) -> None:
        self._outdated[path] = self._backend.rmtree

    def carry_out(self, keep: tuple[str | None, ...]) -> None:
        """Removes what is outdated and was not written anew."""
        for path, remove in self._outdated.items():
            if path not in keep and self._backend.exists(path):
                remove(path)
                if os.path.isfile(_safe_path(path)):
                    os.remove(_safe_path(path))
        self._outdated.clear()


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, of which a crash at any instant leaves the last good file.

    - A file is written beside its place, flushed to the disk and then renamed; ``last_checkpoint``
      likewise, after it.
    - Outdated checkpoints, and the best one so far, are removed after the new one is in place.
    - After every validation the last checkpoint is written once more, so that a resumed training
      knows of it.

    Files on remote storage are written as mmengine does; DeepSpeed writes its folders itself.

    Args:
        safetensors: Whether to write a ``.safetensors`` file beside every checkpoint: the weights
            that are evaluated, the names of the classes and the text of the config. It cannot hold
            code, which makes it the form to hand on; it cannot be resumed from. Local files only.
        kwargs: Of ``CheckpointHook``.

    Raises:
        CheckpointWriteError: If a checkpoint cannot be written, for example on a full disk.
    """

    def __init__(self, *args: Any, safetensors: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.safetensors = safetensors

    def before_train(self, runner: Runner) -> None:
        """Prepares the folder, and removes what an interrupted write has left."""
        write_atomically()
        super().before_train(runner)
        if is_main_process() and isinstance(self.file_backend, LocalBackend):
            for name in os.listdir(self.out_dir) if os.path.isdir(self.out_dir) else ():
                if name.endswith((f'.pth{PART}', f'{_SAFE}{PART}')):
                    os.remove(os.path.join(self.out_dir, name))
        self.file_backend = _LateRemoval(self.file_backend)
        self._saved_step = None

    def after_val_epoch(self, runner: Runner, metrics: Mapping) -> None:
        """Saves the best checkpoint, and in the last one that this validation is done."""
        runner.message_hub.update_info(VALIDATED, runner.iter)
        step = runner.epoch if self.by_epoch else runner.iter
        again = self.last_ckpt is not None and self._saved_step == step
        self._saved_step = None
        super().after_val_epoch(runner, metrics)
        if again and self._saved_step is None:
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            self._save_checkpoint_with_step(runner, step, meta)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            # What is to be removed stays on the list that is saved: if the removal does not happen,
            # the resumed run does it.
            kept = [*self.keep_ckpt_ids, step]
            runner.message_hub.update_info('keep_ckpt_ids', kept)
            if len(kept) > self.max_keep_ckpts:
                path = self._path(kept[0])
                if is_main_process() and self.file_backend.isdir(path):
                    self.file_backend.rmtree(path)  # DeepSpeed's
                elif is_main_process():
                    self.file_backend.remove(path)
            self.keep_ckpt_ids.append(step)
        path = self._path(step)
        runner.message_hub.update_info('last_ckpt', path)
        with self._explained(runner, path):
            runner.save_checkpoint(
                self.out_dir,
                os.path.basename(path),
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            self.last_ckpt = path
            self._saved_step = step
            if is_main_process():
                pointer = os.path.join(runner.work_dir, 'last_checkpoint')
                with atomic_path(pointer) as part, open(part, 'w') as file:
                    file.write(path)
                self._write_safetensors(path)
                self.file_backend.carry_out(keep=(path,))

    def _save_best_checkpoint(self, runner: Runner, metrics: Mapping) -> None:
        before = self._best_paths()
        with self._explained(runner, 'the best checkpoint'):
            super()._save_best_checkpoint(runner, metrics)
            paths = self._best_paths()
            for path in set(paths) - set(before):
                if is_main_process():
                    self._write_safetensors(path)
        if is_main_process() and hasattr(self.file_backend, 'carry_out'):
            self.file_backend.carry_out(keep=paths)

    def _best_paths(self) -> tuple[str | None, ...]:
        best = getattr(self, 'best_ckpt_path_dict', None) or {}
        return (getattr(self, 'best_ckpt_path', None), *best.values())

    def _write_safetensors(self, path: str | None) -> None:
        # From the file: hooks such as EMAHook decide about the weights while it is saved.
        if self.safetensors and path and os.path.isfile(path):
            write_checkpoint(read_checkpoint(path), _safe_path(path))

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    @contextmanager
    def _explained(self, runner: Runner, what: str) -> Iterator[None]:
        try:
            yield
        except CheckpointWriteError:
            raise
        except OSError as error:
            last = latest_checkpoint(runner.work_dir)
            good = f'{last} is whole' if last else 'there is no earlier one'
            raise CheckpointWriteError(
                f'{what} could not be written to {self.out_dir}: {error.strerror or error}. {good}.'
                ' Make room, or keep fewer (default_hooks.checkpoint.max_keep_ckpts), and go on '
                'with --resume.'
            ) from error
