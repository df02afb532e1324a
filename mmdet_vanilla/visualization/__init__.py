from .augmented_batch import augment_batch, draw_augmented_batch
from .contact_sheet import contact_sheet
from .curves import plot_curves, read_scalars, split_scalars
from .draw_instances import draw_instances, palette
from .grid import grid
from .ground_truth import ground_truth
from .learning_curves import learning_curves_figure, plot_learning_curves

__all__ = [
    'learning_curves_figure',
    'plot_learning_curves',
    'augment_batch',
    'contact_sheet',
    'draw_augmented_batch',
    'draw_instances',
    'grid',
    'ground_truth',
    'palette',
    'plot_curves',
    'read_scalars',
    'split_scalars',
]
