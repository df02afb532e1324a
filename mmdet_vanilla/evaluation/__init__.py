from .finite_detections import drop_not_finite
from .match_detections import DetectionDifference, compare_detections, match_detections

__all__ = ['DetectionDifference', 'compare_detections', 'drop_not_finite', 'match_detections']
