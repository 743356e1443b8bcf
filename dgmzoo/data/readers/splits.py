"""`split_of_name`: the split (train, valid, test) that a folder or an array is named after, in the usual spellings."""

import re

SPLITS = ("train", "valid", "test")
_SPLIT_OF_NAME = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_of_name(name: str) -> str | None:
    """The split that a name stands for, in any case; None if it stands for none.

    >>> split_of_name("Train"), split_of_name("val"), split_of_name("cat")
    ('train', 'valid', None)
    """
    return _SPLIT_OF_NAME.get(name.lower())


def split_in_name(name: str) -> str | None:
    """The split that a part of a name stands for, as in `train_images`, `X-test`, `val2017`, `trainA`; None if none does.

    >>> split_in_name("train_images"), split_in_name("val2017"), split_in_name("trainA"), split_in_name("trains")
    ('train', 'valid', 'train', None)
    """
    for word in re.findall("[A-Z]*[a-z]+|[A-Z]+", name):
        if split := split_of_name(word):
            return split
    return None
