from .training_race import Entrant, race

__all__ = ['Entrant', 'race']
