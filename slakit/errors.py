"""The errors that slakit raises: each message names the file or setting, the value and the way out."""


class SlakitError(Exception):
    """Base of every error that a user can mend. The command line prints it as one line and exits with 2."""


class ConfigError(SlakitError):
    """A setting that does not exist, has the wrong type, or a value that cannot work."""


class CorpusError(SlakitError):
    """Annotation or layout of a corpus that cannot be read; names the file and, where known, the line."""


class VideoError(SlakitError):
    """A video or a folder of frames that cannot be read, or not completely."""


class CheckpointError(SlakitError):
    """A checkpoint that is damaged, foreign, or does not fit the vocabulary or model at hand."""
