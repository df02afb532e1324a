from .resumable_loops import ResumableEpochLoop, ResumableIterLoop, WorkerDiedError, resumable

__all__ = ['ResumableEpochLoop', 'ResumableIterLoop', 'WorkerDiedError', 'resumable']
