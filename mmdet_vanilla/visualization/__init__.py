from .augmented_batch import augment_batch, draw_augmented_batch
from .contact_sheet import contact_sheet
from .curves import plot_curves, read_scalars, split_scalars
from .draw_instances import draw_instances, palette
from .grid import grid
from .ground_truth import ground_truth
from .learning_curves import learning_curves_figure

__all__ = [
    'augment_batch',
    'contact_sheet',
    'draw_augmented_batch',
    'draw_instances',
    'grid',
    'ground_truth',
    'learning_curves_figure',
    'palette',
    'plot_curves',
    'read_scalars',
    'split_scalars',
]
