from .rtdetr_hybrid_encoder import RTDETRHybridEncoder

__all__ = ['RTDETRHybridEncoder']
