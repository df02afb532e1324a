from .rtdetr_varifocal_loss import RTDETRVarifocalLoss

__all__ = ['RTDETRVarifocalLoss']
