from .match_detections import DetectionDifference, compare_detections, match_detections

__all__ = ['DetectionDifference', 'compare_detections', 'match_detections']
