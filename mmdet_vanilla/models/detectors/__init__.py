from .rtdetr import RTDETR

__all__ = ['RTDETR']
