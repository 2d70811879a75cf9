"""What can go wrong, by kind. Wrong arguments are ValueError or TypeError as everywhere in Python."""


class PolarityError(RuntimeError):
    """Base of the errors of this package that are not about an argument's value."""


class GeneratorError(PolarityError):
    """The generator cannot be differentiated latent by latent (train-mode layers, NaN weights, ...)."""


class BankError(PolarityError):
    """A bank cannot be built, opened or trusted."""


class ModelError(PolarityError):
    """A bundled or downloadable model is missing, damaged or unknown."""


class SamplingError(PolarityError):
    """A draw as asked for is impossible or would be meaningless."""


class PolarityWarning(UserWarning):
    """The result is right but probably not what was wanted; the text says what to change."""
