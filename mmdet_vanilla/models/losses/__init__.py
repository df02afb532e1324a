from .matchability_aware_loss import MatchabilityAwareLoss
from .rtdetr_varifocal_loss import RTDETRVarifocalLoss

__all__ = ['MatchabilityAwareLoss', 'RTDETRVarifocalLoss']
