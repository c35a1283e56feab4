"""The errors that callers may want to tell apart. All are kinds of `BhkError`, and each message says what to do.

Options:
    OptionError: an option has a value that does not exist, is out of range, or contradicts another option.
    PresetError: there is no such preset, or no file can have the quality asked for. A kind of OptionError.

Reading and writing:
    ReadError: the system could not read a file.
    WriteError: a file could not be written; what was there before is unchanged.
    DestinationExistsError: the file to write exists; a kind of WriteError.
    ChangedError: a file was changed while it was read. A kind of ReadError.
    WorkDirError: a folder for intermediate results holds those of other work, or unreadable files.
    HubError: the Hugging Face Hub refused, or could not be reached.

Files:
    FormatError: a .bhk file is damaged or breaks a rule of the format.
    VerificationError: a .bhk file is intact, but was not made from the given original.
    CheckpointError: a checkpoint cannot be read or written as it is.
    TooLargeError: a file stands for more bytes than bhk's limits allow; the message says how to raise them.
    AmbiguousCheckpointError: a checkpoint holds several state dicts; give `key`. A kind of CheckpointError.
    UnsafePickleError: a checkpoint would run code when it is loaded. A kind of CheckpointError.

Converting:
    CalibrationError: the model cannot be calibrated with these samples.

Models:
    UnknownModelError: a file does not hold a model that bhk can build.
    ConfigurationError: what was given as the configuration of a model is none, or that of another model.
    LoadError: the tensors of a file do not fit the model.
    PredictionError: a model cannot predict the masks that are asked for.
    OnnxError: a model cannot be written as ONNX files.
    NotFiniteError: a model returned NaN or infinity.
    DeviceMemoryError: the device does not have enough memory, for the model or for a picture.
    MissingPackageError: a package that this work needs is not installed.

Long work:
    WorkerError: a worker process failed, or was lost.
    ClusterError: a Ray cluster cannot be reached, has other versions, or lacks what is asked of it.
    MissingResultsError: the parts of an evaluation cannot be merged, because some have not been computed.

Pictures:
    NoPicturesError: a folder holds no pictures, or none that can be used.
    ImageError: a picture cannot be read.
    ClipError: a clip cannot be read, has no frames, or does not have the frame that is asked for.
    PromptError: a point or a box lies outside the picture, or prompts contradict each other.
    AnnotationError: ground truth cannot be read, or does not belong to the pictures.

>>> try:
...     bhk.inspect("photo.jpg")
... except bhk.errors.FormatError as error:
...     print("not a .bhk file")
not a .bhk file
"""

from __future__ import annotations

from bhk.base.lazy import LazyNames

__getattr__ = LazyNames("bhk.errors", "errors.pyi")
__all__ = __getattr__.names


def __dir__() -> list[str]:
    return sorted(__all__)
